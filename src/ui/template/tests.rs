use super::*;
use serde_json::json;

fn image() -> Value {
    json!({
        "Id": "sha256:abc", "RepoTags": ["a:1", "b:2"], "RepoDigests": ["a@sha256:d"], "Size": 12345, "Os": "linux",
        "Config": { "Env": ["A=1", "B=2"], "Labels": { "x.y": "z" }, "User": "" }, "Empty": [],
    })
}

#[test]
fn what_scripts_ask() {
    let table = [
        ("{{.Id}}", "sha256:abc"),
        ("{{ .Id }} {{ .Size }}", "sha256:abc 12345"),
        ("{{index .RepoDigests 0}}", "a@sha256:d"),
        ("{{(index .RepoTags 1)}}", "b:2"),
        ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[x.y:z]"),
        (r#"{{index .Config.Labels "x.y"}}"#, "z"),
        (r#"{{ index .Config.Labels "none" }}|"#, "|"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range $i, $e := .RepoTags}}{{if $i}}, {{end}}{{$e}}{{end}}", "a:1, b:2"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{len .RepoTags}}", "2"),
        (r#"{{join .RepoTags ","}}"#, "a:1,b:2"),
        (r#"{{if eq .Os "linux"}}yes{{else}}no{{end}}"#, "yes"),
        ("{{if .Config.User}}a{{else if .Os}}b{{else}}c{{end}}", "b"),
        ("{{with .Config}}{{.Env}}{{end}}", "[A=1 B=2]"),
        ("{{.Config.Healthcheck}}", "<no value>"),
        (r#"{{printf "%-8s|%d" .Os .Size}}"#, "linux   |12345"),
        ("{{.Id | json}}", r#""sha256:abc""#),
        (r#"{{ .Os | upper | printf "%s!" }}"#, "LINUX!"),
        ("a {{- .Os -}} b", "alinuxb"),
        ("{{/* nothing */}}x", "x"),
        ("{{$x := .Os}}{{$x}}{{\"\\t\"}}{{`raw\\t`}}", "linux\traw\\t"),
        ("{{range .RepoTags}}{{$.Os}} {{end}}", "linux linux "),
        ("{{slice .Id 7}}", "abc"),
        (r#"{{index (split .Id ":") 1}}"#, "abc"),
        ("{{and .Os .Config.User}}{{or .Config.User .Os}}{{not .Os}}", "linuxfalse"),
        ("{{if and (gt .Size 100) (le .Size 20000)}}in{{end}}", "in"),
    ];
    for (format, expected) in table {
        let text = Template::parse(format).unwrap_or_else(|error| panic!("{format}: {error}")).render(&image());
        assert_eq!(text.as_deref(), Ok(expected), "{format}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let table = [
        ("{{.Id", "an action has no end: '.Id'"),
        ("{{if .Id}}", "'if' has no 'end'"),
        ("{{end}}", "'end' stands alone"),
        ("{{nope .Id}}", "function \"nope\" not defined"),
        ("{{.Nope}}", "there is no field 'Nope'"),
        ("{{$x}}", "undefined variable '$x'"),
        ("{{index .RepoTags 7}}", "index: index out of range"),
        ("{{index .Empty 0}}", "index: index out of range"),
        ("{{\"a}}", "a string has no end: '\"a}}'"),
        ("{{}}x{{|}}", "an action is empty"),
        ("{{.Id.Deeper}}", "there is no field 'Deeper'"),
        ("{{template \"x\"}}", "'template' is not supported"),
    ];
    for (format, expected) in table {
        let error = Template::parse(format).and_then(|template| template.render(&image()));
        assert_eq!(error.map_err(|error| error.to_string()), Err(expected.to_string()), "{format}");
    }
}

#[test]
fn lists() {
    let heads = json!({ "Name": "NAME", "Size": "SIZE" });
    let rows = [json!({ "Name": "a", "Size": "1B" }), json!({ "Name": "longer", "Size": "22B" })];
    let table = [
        ("{{.Name}}", "a\nlonger\n"),
        ("json", "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"longer\",\"Size\":\"22B\"}\n"),
        (r"table {{.Name}}\t{{.Size}}", "NAME      SIZE\na         1B\nlonger    22B\n"),
        (r"{{.Name}}\t{{.Size}}", "a\t1B\nlonger\t22B\n"),
    ];
    for (format, expected) in table {
        assert_eq!(list(format, &heads, &rows).as_deref(), Ok(expected), "{format}");
    }
}
