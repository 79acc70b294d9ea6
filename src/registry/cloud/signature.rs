//! AWS Signature Version 4. Spec: docs.aws.amazon.com, "Create a signed AWS API request".

use crate::oci::Digest;
use ring::hmac::{HMAC_SHA256, Key, sign};

/// Who signs.
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: crate::http::Secret,
    /// Of keys that last for a session only.
    pub(super) session: Option<crate::http::Secret>,
}

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `YYYYMMDDTHHMMSSZ`.
    pub(super) date: &'a str,
    /// Names in lower case and values, sorted by name; `host` and `x-amz-date` among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

impl Signed<'_> {
    /// The `Authorization` of the request.
    pub(super) fn authorization(&self, keys: &Keys) -> String {
        let names = self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let body = Digest::sha256(self.body);
        let request = format!("{}\n{}\n\n{lines}\n{names}\n{}", self.method, self.path, body.hex());
        let day = self.date.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.date, Digest::sha256(request).hex());
        let start = format!("AWS4{}", keys.secret.expose()).into_bytes();
        let key = [day, self.region, self.service, "aws4_request"].iter().fold(start, |key, part| mac(&key, part));
        let signature: String = mac(&key, &to_sign).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get-vanilla` and `post-vanilla` of AWS's test suite for signers.
    #[test]
    fn signs_as_aws_does() {
        let secret = crate::http::Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let keys = Keys { id: "AKIDEXAMPLE".into(), secret, session: None };
        for (method, expected) in [
            ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let date = "20150830T123600Z";
            let headers = [("host", "example.amazonaws.com"), ("x-amz-date", date)];
            let (region, service) = ("us-east-1", "service");
            let signed = Signed { method, path: "/", region, service, date, headers: &headers, body: b"" };
            let text = signed.authorization(&keys);
            let scope = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
            assert!(text.contains(scope) && text.ends_with(&format!("Signature={expected}")), "{text}");
        }
    }
}
