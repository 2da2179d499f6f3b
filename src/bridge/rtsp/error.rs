//! Why an IP camera gives no pictures: what the RTSP client says of a failure comes in, a sentence with its remedy goes out. It
//! never has a secret in it.

use std::time::Duration;

use crate::config::shown;

/// What is asked of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The connection, and what streams there are (DESCRIBE).
    Describe,
    /// How the pictures are to come (SETUP).
    Setup,
    /// That they come (PLAY).
    Play,
    /// Pictures come.
    Receive,
}

/// Why a camera gives no pictures, as what follows "the camera at rtsp://… ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RtspError {
    #[error(
        "cannot be reached ({0}): see that it is on, that the address is right, and that the port is (554 unless the address \
         names one)"
    )]
    Unreachable(String),
    #[error(
        "did not answer {} within {} s: see that the address is right, and that no other program has all the connections that \
         the camera allows", step.method(), limit.as_secs()
    )]
    NoAnswer { step: Step, limit: Duration },
    #[error(
        "does not speak RTSP there ({0}): see that the port is right, which is 554 on most cameras; encrypted RTSP (rtsps) is not \
         supported"
    )]
    NotRtsp(String),
    #[error(
        "asks who you are (401): give a user and a password, by `rtsp_user` and `rtsp_password_file` or by --rtsp-user and \
         --rtsp-password-file"
    )]
    NoCredentials,
    #[error(
        "refuses the user or the password (401): see that both are right, and that the camera has not locked the user for a while; \
         it is asked once a minute"
    )]
    WrongCredentials,
    #[error(
        "does not let this user see the stream (403): give the user that right, or name another one"
    )]
    Forbidden,
    #[error(
        "has no such stream ({0}): see the path in the address, which every maker has another one for; `twinsight discover` shows \
         that of cameras with ONVIF"
    )]
    NoSuchStream(u16),
    #[error(
        "cannot serve the stream now ({0}): see whether it has as many viewers as it allows, and whether the stream is on"
    )]
    Busy(u16),
    #[error("does not send that way (461): take the other transport, `tcp` or `udp`")]
    Transport,
    #[error("refuses {} ({status}): see whether its RTSP server is set up", step.method())]
    Refused { step: Step, status: u16 },
    #[error(
        "describes its streams in a way that cannot be read ({0}): see that the path in the address is that of a stream"
    )]
    BadDescription(String),
    #[error(
        "sends {0} and no H.264 there: set the video encoding of this stream to H.264 in the camera's settings (without H.264+, Smart Codec or the like), or name a stream that has it"
    )]
    OtherCodec(String),
    #[error(
        "has no video there ({0}): see that the path in the address is that of a stream with video"
    )]
    NoVideo(String),
    #[error(
        "sends B frames, which cannot be shown as they come: set the number of B frames to 0 in the camera's settings, or the H.264 \
         profile to Baseline"
    )]
    BFrames,
    #[error(
        "sends interlaced video, which the decoder cannot take: set the camera to progressive, or name another stream of it"
    )]
    Interlaced,
    #[error(
        "sends H.264 of profile {profile_idc} with {what}, which viewers cannot show: set the H.264 profile to Baseline, Main or High \
         in the camera's settings"
    )]
    Profile { profile_idc: u8, what: &'static str },
    #[error("was silent for {} s: see whether it shows pictures elsewhere", limit.as_secs())]
    Silent { limit: Duration },
    #[error("sent nothing for {} s: a firewall may keep its datagrams away, so take the transport `tcp`", limit.as_secs())]
    NoDatagrams { limit: Duration },
    #[error(
        "sent no keyframe for {} s: set the keyframe interval (I-frame interval, GOP) to 1 s in the camera's settings",
        limit.as_secs()
    )]
    NoKeyframe { limit: Duration },
    #[error("ended the stream: it may have restarted")]
    Ended,
    #[error("broke off ({0}): it may have restarted, or the network to it is bad")]
    Broken(String),
    #[error(
        "sent what made its RTSP client panic: this is a bug, please report it with the camera's model"
    )]
    Panicked,
}

impl Step {
    fn method(self) -> &'static str {
        match self {
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Receive => "the session",
        }
    }
}

impl RtspError {
    /// What a failure means, of which the client tells the status of the camera's answer, if there was one, and a text.
    pub(super) fn of_client(
        step: Step,
        status: Option<u16>,
        text: &str,
        has_credentials: bool,
    ) -> Self {
        // What follows the first line are addresses and positions of packets.
        let line = text.lines().next().unwrap_or_default();
        // And a dump of what could not be read.
        let line = line.split_once("; buffered").map_or(line, |(line, _)| line);
        match status {
            Some(401) if has_credentials => return Self::WrongCredentials,
            Some(401) => return Self::NoCredentials,
            Some(403) => return Self::Forbidden,
            Some(status @ (404 | 410 | 454)) => return Self::NoSuchStream(status),
            Some(status @ (453 | 503)) => return Self::Busy(status),
            Some(461) => return Self::Transport,
            Some(status @ 300..) => return Self::Refused { step, status },
            Some(_) => {
                let what = line.split_once(": ").map_or(line, |(_, what)| what);
                return Self::BadDescription(shown(what));
            }
            None => {}
        }
        if let Some(why) = line.strip_prefix("Unable to connect to RTSP server: ") {
            return Self::Unreachable(shown(why));
        }
        if step == Step::Describe {
            let why = line.strip_prefix("RTSP framing error: ").unwrap_or(line);
            return Self::NotRtsp(shown(why));
        }
        Self::Broken(shown(line))
    }

    /// The camera has answered, and stays with what it said until somebody changes a setting.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::NoCredentials
            | Self::WrongCredentials
            | Self::Forbidden
            | Self::NoSuchStream(_)
            | Self::Transport
            | Self::OtherCodec(_)
            | Self::NoVideo(_)
            | Self::BFrames
            | Self::Interlaced
            | Self::Profile { .. } => true,
            Self::Unreachable(_)
            | Self::NoAnswer { .. }
            | Self::NotRtsp(_)
            | Self::Busy(_)
            | Self::Refused { .. }
            | Self::BadDescription(_)
            | Self::Silent { .. }
            | Self::NoDatagrams { .. }
            | Self::NoKeyframe { .. }
            | Self::Ended
            | Self::Broken(_)
            | Self::Panicked => false,
        }
    }

    /// The camera does not take who asks. Asked so too often, some cameras lock the user.
    pub(super) fn is_of_credentials(&self) -> bool {
        matches!(self, Self::WrongCredentials | Self::Forbidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: Option<u16>, text: &str) -> RtspError {
        RtspError::of_client(Step::Describe, status, text, true)
    }

    #[test]
    fn the_status_of_an_answer_says_what_to_do() {
        for (status, remedy) in [
            (401, "see that both are right"),
            (403, "give the user that right"),
            (404, "the path in the address"),
            (453, "as many viewers as it allows"),
            (461, "the other transport"),
            (500, "refuses DESCRIBE (500)"),
        ] {
            let sentence = told(Some(status), "text").to_string();
            assert!(sentence.contains(remedy), "{sentence}");
            assert!(sentence.contains(&status.to_string()), "{sentence}");
        }
        let nobody = RtspError::of_client(Step::Describe, Some(401), "text", false);
        assert_eq!(nobody, RtspError::NoCredentials);
    }

    #[test]
    fn what_the_client_says_is_cut_to_what_matters() {
        assert_eq!(
            told(
                None,
                "Unable to connect to RTSP server: Connection refused (os error 111)"
            ),
            RtspError::Unreachable("Connection refused (os error 111)".to_owned())
        );
        let html =
            "RTSP framing error: Invalid RTSP message: bad version; buffered:\n00\n\nconn: a";
        assert_eq!(
            told(None, html),
            RtspError::NotRtsp("Invalid RTSP message: bad version".to_owned())
        );
        let sdp =
            "200 OK response to DESCRIBE CSeq=1: No parseable streams\n\nconn: 1.2.3.4:5->6.7.8.9";
        assert_eq!(
            told(Some(200), sdp),
            RtspError::BadDescription("No parseable streams".to_owned())
        );
        let lost = "Error reading from RTSP peer: reset\n\nconn: a";
        assert_eq!(
            RtspError::of_client(Step::Receive, None, lost, true),
            RtspError::Broken("Error reading from RTSP peer: reset".to_owned())
        );
    }
}
