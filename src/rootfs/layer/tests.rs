use super::*;
use std::collections::BTreeMap;

fn meta(kind: Kind) -> Metadata {
    Metadata { kind, mode: 0o755, uid: 0, gid: 0, mtime: 1_000_000_000, xattrs: BTreeMap::new() }
}

fn file(bytes: &[u8]) -> Metadata {
    meta(Kind::File { size: bytes.len() as u64 })
}

fn writer(options: LayerOptions) -> LayerWriter<Vec<u8>> {
    LayerWriter::new(Vec::new(), options)
}

fn plain() -> LayerOptions {
    LayerOptions { compression: Compression::none(), ..LayerOptions::default() }
}

/// Keys of the PAX records that a tar begins with. The crate's own iterator takes a newline for the end of a record, which
/// it is not in a value.
fn pax_keys(tar: &[u8]) -> Vec<String> {
    let header = tar::Header::from_byte_slice(&tar[..512]);
    if !header.entry_type().is_pax_local_extensions() {
        return vec![];
    }
    let mut rest = &tar[512..512 + header.size().unwrap() as usize];
    let mut keys = vec![];
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').unwrap();
        let length: usize = String::from_utf8_lossy(&rest[..space]).parse().unwrap();
        assert_eq!(rest[length - 1], b'\n');
        let key = rest[space + 1..length].split(|b| *b == b'=').next().unwrap();
        keys.push(String::from_utf8_lossy(key).into_owned());
        rest = &rest[length..];
    }
    keys
}

/// Writes one entry and reads it back with the crate's reader: path, link, header numbers and the PAX keys.
fn round_trip(path: &[u8], meta: &Metadata) -> (Vec<u8>, Option<Vec<u8>>, u64, u64, Vec<String>) {
    let mut layer = writer(plain());
    let zeros = &mut io::repeat(0).take(if let Kind::File { size } = meta.kind { size } else { 0 });
    layer.append(path, meta, Some(zeros)).unwrap();
    let (bytes, ..) = layer.finish_into().unwrap();
    let keys = pax_keys(&bytes);
    let mut archive = tar::Archive::new(&bytes[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    let link = entry.link_name_bytes().map(|link| link.into_owned());
    (entry.path_bytes().into_owned(), link, entry.header().uid().unwrap(), entry.header().mtime().unwrap(), keys)
}

#[test]
fn pax_records_only_where_ustar_does_not_hold_it() {
    let long = |parts: &[usize]| parts.iter().map(|n| "x".repeat(*n)).collect::<Vec<_>>().join("/").into_bytes();
    for (path, keys) in [
        (long(&[100]), &[][..]),
        (long(&[101]), &["path"]),
        (long(&[155, 100]), &[]),
        (long(&[156, 99]), &["path"]),
        (long(&[155, 101]), &["path"]),
        (long(&[99, 99, 99]), &["path"]),
        (b"bad \xff\xfe name".to_vec(), &[]),
        (long(&[2; 200]), &["path"]),
    ] {
        let (read, _, _, _, found) = round_trip(&path, &file(b"abc"));
        assert_eq!(read, path);
        assert_eq!(found, keys, "{}", path.len());
    }
    for (length, keys) in [(99, &[][..]), (100, &["path"])] {
        let path = vec![b'd'; length];
        let (read, _, _, _, found) = round_trip(&path, &meta(Kind::Dir));
        assert_eq!(read, [&path[..], b"/"].concat());
        assert_eq!(found, keys);
    }
    let target = vec![0xfe; 101];
    let (_, link, _, _, keys) = round_trip(b"l", &meta(Kind::Symlink { target: target.clone() }));
    assert_eq!((link, keys), (Some(target), vec!["linkpath".to_string()]));
}

#[test]
fn numbers_beyond_ustar() {
    let with = |change: &dyn Fn(&mut Metadata)| {
        let mut meta = file(b"x");
        change(&mut meta);
        let (.., keys) = round_trip(b"f", &meta);
        keys
    };
    assert!(with(&|m| (m.uid, m.gid) = (0o7_777_777, 0o7_777_777)).is_empty());
    assert_eq!(with(&|m| (m.uid, m.gid) = (0o10_000_000, u32::MAX)), ["uid", "gid"]);
    assert_eq!(with(&|m| m.mtime = -1), ["mtime"]);
    assert_eq!(with(&|m| m.mtime = 1 << 33), ["mtime"]);
    assert!(with(&|m| m.mtime = (1 << 33) - 1).is_empty());
    assert_eq!(
        with(&|m| {
            m.xattrs.insert(b"user.a".to_vec(), vec![0, 255, b'\n', b'=']);
            m.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
        }),
        ["SCHILY.xattr.security.capability", "SCHILY.xattr.user.a"]
    );
}

#[test]
fn sizes_beyond_ustar_stand_in_a_record() {
    // The header only: the reader's end comes before the 8 GiB.
    let mut layer = writer(plain());
    let error = layer.append(b"big", &meta(Kind::File { size: 1 << 33 }), Some(&mut &b"short"[..])).unwrap_err();
    assert!(matches!(error, LayerError::Shrank { got: 5, expected: 0x2_0000_0000, .. }), "{error}");
    let (bytes, ..) = layer.finish_into().unwrap();
    assert!(bytes[512..].starts_with(b"19 size=8589934592\n"));
}

#[test]
fn epoch_sets_later_times_back() {
    let options = LayerOptions { epoch: Some(5), ..plain() };
    for (mtime, expected) in [(4, 4), (5, 5), (6, 5)] {
        let mut layer = writer(options);
        layer.append(b"f", &Metadata { mtime, ..file(b"") }, None).unwrap();
        let (bytes, ..) = layer.finish_into().unwrap();
        assert_eq!(tar::Header::from_byte_slice(&bytes[..512]).mtime().unwrap(), expected);
    }
}

#[test]
fn order_is_by_component() {
    let sorted: [&[u8]; 8] = [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a.b", b"ab", b"b\xff"];
    for pair in sorted.windows(2) {
        assert!(order(pair[0], pair[1]).is_lt(), "{:?}", pair);
    }
    let mut layer = writer(plain());
    for path in sorted {
        layer.append(path, &meta(Kind::Dir), None).unwrap();
    }
    for late in [&b"b\xff"[..], b"a", b""] {
        assert!(matches!(layer.append(late, &meta(Kind::Dir), None), Err(LayerError::Order { .. })));
        assert!(matches!(layer.whiteout(late), Err(LayerError::Order { .. })));
    }
}

#[test]
fn refuses_what_an_archive_must_not_hold() {
    for path in [&b"/a"[..], b"a/", b"a//b", b"../a", b"a/..", b"./a", b"a\0b", b".wh.a", b"d/.wh..wh..opq"] {
        let error = writer(plain()).append(path, &meta(Kind::Dir), None).unwrap_err();
        assert!(matches!(error, LayerError::Path { .. }), "{error}");
    }
    let mut layer = writer(plain());
    assert!(matches!(layer.append(b"s", &meta(Kind::Socket), None), Err(LayerError::Socket(_))));
    assert!(matches!(layer.hardlink(b"x", b"y", &file(b"")), Err(LayerError::LinkTarget { .. })));
    assert!(matches!(layer.hardlink(b"x", b"../y", &file(b"")), Err(LayerError::Path { .. })));
}

#[test]
fn files_that_change_while_they_are_read_are_named() {
    let size = |size| meta(Kind::File { size });
    let short = writer(plain()).append(b"d/f", &size(10), Some(&mut &b"abc"[..])).unwrap_err();
    assert_eq!(short.to_string(), "'d/f' became shorter while it was read: 3 bytes of 10");
    let long = writer(plain()).append(b"d/f", &size(2), Some(&mut &b"abc"[..])).unwrap_err();
    assert_eq!(long.to_string(), "'d/f' became longer while it was read: more than its 2 bytes");
}

fn content(fill: impl Fn(&mut LayerWriter<Vec<u8>>)) -> ContentDigest {
    let mut layer = writer(plain());
    fill(&mut layer);
    layer.finish_into().unwrap().2
}

#[test]
fn content_leaves_times_out_and_nothing_else() {
    let base = file(b"abc");
    let digest =
        |meta: &Metadata, data: &[u8]| content(|layer| layer.append(b"f", meta, Some(&mut &data[..])).unwrap());
    let reference = digest(&base, b"abc");
    assert_eq!(reference, digest(&Metadata { mtime: 7, ..base.clone() }, b"abc"));
    let mut others = vec![
        digest(&base, b"abd"),
        digest(&file(b"abcd"), b"abcd"),
        digest(&Metadata { mode: 0o4755, ..base.clone() }, b"abc"),
        digest(&Metadata { uid: 1, ..base.clone() }, b"abc"),
        digest(&Metadata { gid: 1, ..base.clone() }, b"abc"),
        digest(&Metadata { xattrs: [(b"user.a".to_vec(), vec![])].into(), ..base.clone() }, b"abc"),
        digest(&Metadata { xattrs: [(b"user.".to_vec(), b"a".to_vec())].into(), ..base.clone() }, b"abc"),
        content(|layer| layer.whiteout(b"f").unwrap()),
        content(|layer| layer.opaque(b"f").unwrap()),
        content(|_| ()),
        reference,
    ];
    for target in [&b"a"[..], b"b"] {
        let kind = Kind::Symlink { target: target.to_vec() };
        others.push(content(|layer| layer.append(b"f", &meta(kind.clone()), None).unwrap()));
        others.push(content(|layer| layer.hardlink(b"f", target, &base).unwrap_or(())));
    }
    for (major, minor) in [(1, 3), (1, 5)] {
        for kind in [Kind::CharDevice { major, minor }, Kind::BlockDevice { major, minor }] {
            others.push(content(|layer| layer.append(b"f", &meta(kind.clone()), None).unwrap()));
        }
    }
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count);
}

#[test]
fn the_layer_is_what_its_digests_say() {
    use crate::oci::Digest;
    for compression in [Compression::default(), Compression::zstd(None).unwrap(), Compression::none()] {
        let root = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(root.path()).unwrap();
        let mut layer = LayerWriter::new(store.blob_writer().unwrap(), LayerOptions { compression, ..plain() });
        layer.append(b"f", &file(b"abc"), Some(&mut &b"abc"[..])).unwrap();
        let layer = layer.finish().unwrap();
        let blob = store.read_blob(&layer.digest, 1 << 20).unwrap();
        assert_eq!((Digest::sha256(&blob), blob.len() as u64), (layer.digest, layer.size));
        let mut tar = Vec::new();
        match layer.media_type.rsplit('+').next() {
            Some("gzip") => flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap(),
            Some("zstd") => zstd::Decoder::new(&blob[..]).unwrap().read_to_end(&mut tar).unwrap(),
            _ => (&blob[..]).read_to_end(&mut tar).unwrap(),
        };
        assert_eq!(&Digest::sha256(tar), layer.diff_id.digest());
    }
}

/// Docker and containerd set what a link's entry says on the file that it is a name of.
#[test]
fn regression_a_link_says_what_its_file_is() {
    let like = |meta: &Metadata| {
        let mut layer = LayerWriter::new(Vec::new(), LayerOptions { epoch: Some(4), ..plain() });
        layer.append(b"f", meta, Some(&mut &b"abc"[..])).unwrap();
        layer.hardlink(b"g", b"f", meta).unwrap();
        let tar = layer.finish_into().unwrap().0;
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let xattrs: Vec<String> = entry
                .pax_extensions()
                .unwrap()
                .into_iter()
                .flatten()
                .map(|pair| pair.unwrap().key().unwrap().into())
                .collect();
            let header = entry.header();
            let ids = (header.uid().unwrap(), header.gid().unwrap());
            (header.mode().unwrap(), ids, header.mtime().unwrap(), xattrs)
        });
        entries.collect::<Vec<_>>()
    };
    let xattrs = [(b"security.capability".to_vec(), vec![1])].into();
    let found = like(&Metadata { mode: 0o4755, uid: 12, gid: 34, mtime: 9, xattrs, ..file(b"abc") });
    assert_eq!(found[0], (0o4755, (12, 34), 4, vec!["SCHILY.xattr.security.capability".to_string()]));
    assert_eq!(found[1], found[0]);
}
