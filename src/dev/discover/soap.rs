//! SOAP 1.2 around what ONVIF asks and answers: envelopes with the digest of a password (WS-Security UsernameToken 1.0), and
//! faults.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use roxmltree::{Document, Node};
use sha1::{Digest, Sha1};
use twinsight_client::hub::text::brief;

use super::xml;
use crate::config::RtspCredentials;

const SECURITY: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
const UTILITY: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
const TOKEN_PROFILE: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0";
const MESSAGE_SECURITY: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0";

/// What an answer has in place of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SoapError {
    /// The camera wants to know who asks, or does not believe it.
    #[error("it does not let everybody ask")]
    NotAuthorized,
    /// The camera says why it does not answer.
    #[error("it says no ({0})")]
    Fault(String),
    /// The answer is no SOAP, or not what was asked for.
    #[error("its answer cannot be read ({0})")]
    Unreadable(String),
}

/// A message with this body. Who asks is said by a digest of the password, which is good for a few minutes of the camera's clock.
pub(super) fn envelope(
    body: &str,
    credentials: Option<&RtspCredentials>,
    nonce: [u8; 16],
    now: Timestamp,
) -> String {
    let header = credentials.map(|credentials| header(credentials, nonce, now));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">{}<s:Body>{body}</s:Body></s:Envelope>"#,
        header.unwrap_or_default()
    )
}

fn header(credentials: &RtspCredentials, nonce: [u8; 16], now: Timestamp) -> String {
    let created = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let digest = password_digest(&nonce, &created, credentials.password.expose());
    let user = xml::escaped(&credentials.user);
    let nonce = STANDARD.encode(nonce);
    format!(
        r#"<s:Header><Security s:mustUnderstand="1" xmlns="{SECURITY}"><UsernameToken><Username>{user}</Username><Password Type="{TOKEN_PROFILE}#PasswordDigest">{digest}</Password><Nonce EncodingType="{MESSAGE_SECURITY}#Base64Binary">{nonce}</Nonce><Created xmlns="{UTILITY}">{created}</Created></UsernameToken></Security></s:Header>"#
    )
}

fn password_digest(nonce: &[u8], created: &str, password: &str) -> String {
    let digest = Sha1::new()
        .chain_update(nonce)
        .chain_update(created)
        .chain_update(password)
        .finalize();
    STANDARD.encode(digest)
}

/// The element that answers, such as `GetProfilesResponse`.
pub(super) fn answer<'a, 'i>(
    document: &'a Document<'i>,
    name: &str,
) -> Result<Node<'a, 'i>, SoapError> {
    let body = xml::find(document.root(), &["Envelope", "Body"])
        .ok_or_else(|| SoapError::Unreadable("it is no SOAP message".to_owned()))?;
    if let Some(fault) = xml::find(body, &["Fault"]) {
        return Err(read_fault(fault));
    }
    xml::find(body, &[name]).ok_or_else(|| SoapError::Unreadable(format!("it has no {name}")))
}

/// What a fault means. Cameras tell by a code, of SOAP 1.2 or 1.1, or by words alone that they want to know who asks.
fn read_fault(fault: Node<'_, '_>) -> SoapError {
    let reason = xml::string(fault, &["Reason", "Text"])
        .or_else(|| xml::string(fault, &["faultstring"]))
        .unwrap_or_default();
    let codes = fault
        .descendants()
        .filter(|node| ["Value", "faultcode"].contains(&node.tag_name().name()))
        .filter_map(|node| node.text())
        .map(|code| code.trim().rsplit(':').next().unwrap_or_default());
    let mut last_code = "";
    for code in codes.take(8) {
        if ["NotAuthorized", "FailedAuthentication"].contains(&code) {
            return SoapError::NotAuthorized;
        }
        last_code = code;
    }
    let words = reason.to_ascii_lowercase();
    if [
        "not authorized",
        "unauthorized",
        "authority failure",
        "authentication",
    ]
    .iter()
    .any(|words_of_it| words.contains(words_of_it))
    {
        return SoapError::NotAuthorized;
    }
    SoapError::Fault(brief(match reason {
        "" => last_code,
        reason => reason,
    }))
}

#[cfg(test)]
mod tests {
    use twinsight_client::secret::Secret;

    use super::*;

    fn fault(fault: &str) -> SoapError {
        let text = format!(
            "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope' xmlns:ter='http://www.onvif.org/ver10/error'><s:Body><s:Fault>{fault}</s:Fault></s:Body></s:Envelope>"
        );
        answer(&xml::parse(&text).unwrap(), "X").unwrap_err()
    }

    #[test]
    fn the_digest_is_that_of_the_application_programmers_guide() {
        // ONVIF Application Programmer's Guide 1.0, 6.1.1.3.
        let nonce = STANDARD.decode("LKqI6G/AikKCQrN0zqZFlg==").unwrap();
        let created = "2010-09-16T07:50:45Z";
        let digest = password_digest(&nonce, created, "userpassword");
        assert_eq!(digest, "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
        let credentials = RtspCredentials {
            user: "a<b".to_owned(),
            password: Secret::new("userpassword"),
        };
        let now: Timestamp = created.parse().unwrap();
        let text = envelope("<X/>", Some(&credentials), nonce.try_into().unwrap(), now);
        let document = xml::parse(&text).unwrap();
        let root = document.root();
        let token = xml::find(root, &["Envelope", "Header", "Security", "UsernameToken"]).unwrap();
        assert_eq!(xml::string(token, &["Username"]), Some("a<b"));
        assert_eq!(xml::string(token, &["Password"]), Some(&*digest));
        assert_eq!(xml::string(token, &["Created"]), Some(created));
        assert!(!text.contains("userpassword"));
        assert!(!envelope("<X/>", None, [0; 16], now).contains("Header"));
    }

    #[test]
    fn faults_of_several_makers_are_told_apart() {
        for not_authorized in [
            "<s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang='en'>Sender not Authorized</s:Text></s:Reason>",
            "<s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>wsse:FailedAuthentication</s:Value></s:Subcode></s:Code>",
            "<s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text>The action requested requires authorization and the sender is not authorized</s:Text></s:Reason>",
            "<faultcode>SOAP-ENV:Client</faultcode><faultstring>Authority failure</faultstring>",
        ] {
            assert_eq!(fault(not_authorized), SoapError::NotAuthorized);
        }
        let unknown = "<s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>ter:ActionNotSupported</s:Value></s:Subcode></s:Code><s:Reason><s:Text>Optional Action Not Implemented</s:Text></s:Reason>";
        assert_eq!(
            fault(unknown),
            SoapError::Fault("Optional Action Not Implemented".to_owned())
        );
        let bare = "<s:Code><s:Value>s:Receiver</s:Value></s:Code>";
        assert_eq!(fault(bare), SoapError::Fault("Receiver".to_owned()));
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let text = "<Envelope><Body><GetOther/></Body></Envelope>";
        let error = answer(&xml::parse(text).unwrap(), "GetX").unwrap_err();
        assert_eq!(
            error.to_string(),
            "its answer cannot be read (it has no GetX)"
        );
    }
}
