//! How an IP camera is asked, as `twinsight camera` is told: the address, options and the environment come in, a configuration
//! of the source goes out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::config::{Env, RtspConfig, RtspCredentials, RtspTransport, RtspUrl, shown};
use twinsight_client::secret::Secret;
use twinsight_client::secret_file::read_secret_file;

pub(super) const USER: &str = "TWINSIGHT_RTSP_USER";
pub(super) const PASSWORD: &str = "TWINSIGHT_RTSP_PASSWORD";
pub(super) const PASSWORD_FILE: &str = "TWINSIGHT_RTSP_PASSWORD_FILE";

/// The variables that say who asks a camera. They are no settings of the node.
pub(super) const VARIABLES: &[&str] = &[USER, PASSWORD, PASSWORD_FILE];

#[derive(Args)]
pub(super) struct RtspArgs {
    /// The user that the IP camera knows, unless TWINSIGHT_RTSP_USER or the URL has it.
    #[arg(long, value_name = "USER", requires = "rtsp")]
    rtsp_user: Option<String>,
    /// A file with the user's password, which is read again when the camera is asked again. TWINSIGHT_RTSP_PASSWORD_FILE names
    /// one too, and TWINSIGHT_RTSP_PASSWORD has the password itself.
    #[arg(long, value_name = "FILE", requires = "rtsp")]
    rtsp_password_file: Option<PathBuf>,
    /// What the IP camera's pictures come by: tcp, interleaved with the commands, or udp, datagrams of their own.
    #[arg(long, value_name = "WAY", requires = "rtsp", default_value = "tcp", value_parser = transport)]
    rtsp_transport: RtspTransport,
}

impl RtspArgs {
    /// What the address, the options and the variables say together. Options win over variables, and both over the address.
    pub(super) fn config(&self, url: &str, env: &Env) -> Result<RtspConfig> {
        let scheme = url.split("://").next().unwrap_or_default();
        ensure!(
            !scheme.eq_ignore_ascii_case("rtsps"),
            "--rtsp does not take rtsps, RTSP in TLS: switch plain RTSP on in the camera's settings, and name it by rtsp://"
        );
        let Some((address, in_url)) = RtspUrl::parse(url) else {
            // The part before an `@` may have a password, and without a valid address nobody knows where it ends.
            bail!(
                "--rtsp takes an address like rtsp://192.168.1.20:554/stream1, and \"{}\" is none: write special characters of a \
                 password in it as %40 and the like, or give it by --rtsp-password-file",
                shown(url)
            );
        };
        if in_url
            .as_ref()
            .is_some_and(|known| !known.password.expose().is_empty())
        {
            tracing::warn!(
                "the password in the address of --rtsp is shown to everybody on this machine by `ps`: give it by \
                 --rtsp-password-file or TWINSIGHT_RTSP_PASSWORD in its place"
            );
        }
        let user = self.rtsp_user.as_deref().or(env.get(USER));
        let password = self.password(env)?;
        let credentials = match (user, password, in_url) {
            (None, None, in_url) => in_url,
            (Some(user), Some(password), _) => Some(RtspCredentials {
                user: user.to_owned(),
                password,
            }),
            (Some(user), None, in_url) => Some(RtspCredentials {
                user: user.to_owned(),
                password: in_url.map_or_else(|| Secret::new(""), |known| known.password),
            }),
            (None, Some(password), Some(RtspCredentials { user, .. })) => {
                Some(RtspCredentials { user, password })
            }
            (None, Some(_), None) => bail!(
                "there is a password for the IP camera and no user: name the user with --rtsp-user or {USER}"
            ),
        };
        Ok(RtspConfig {
            url: address,
            credentials,
            transport: self.rtsp_transport,
        })
    }

    fn password(&self, env: &Env) -> Result<Option<Secret>> {
        if let Some(file) = &self.rtsp_password_file {
            return from_file(file, "--rtsp-password-file").map(Some);
        }
        if let Some(password) = env.get(PASSWORD) {
            return Ok(Some(Secret::new(password)));
        }
        let file = env.get(PASSWORD_FILE);
        file.map(|file| from_file(Path::new(file), PASSWORD_FILE))
            .transpose()
    }
}

fn from_file(file: &Path, named_by: &str) -> Result<Secret> {
    let text = read_secret_file(file).with_context(|| {
        format!(
            "the password's file {} of {named_by} cannot be read: create it, readable by this program",
            file.display()
        )
    })?;
    Secret::of_file(file, &text).with_context(|| {
        format!(
            "the file {} of {named_by} has no password: write it there in one line of visible characters",
            file.display()
        )
    })
}

fn transport(text: &str) -> Result<RtspTransport, String> {
    let known = RtspTransport::ALL.iter().find(|way| way.as_str() == text);
    known
        .copied()
        .ok_or_else(|| "it takes tcp or udp".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(user: Option<&str>, file: Option<&Path>) -> RtspArgs {
        RtspArgs {
            rtsp_user: user.map(str::to_owned),
            rtsp_password_file: file.map(Path::to_owned),
            rtsp_transport: RtspTransport::Tcp,
        }
    }

    fn who(args: &RtspArgs, url: &str, env: &[(&str, &str)]) -> Result<Option<(String, String)>> {
        let env = env.iter().copied().collect();
        let known = args.config(url, &env)?.credentials;
        Ok(known.map(|known| (known.user, known.password.expose().to_owned())))
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn options_win_over_variables_and_both_over_the_address() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of-file\n").unwrap();
        let in_url = "rtsp://ann:of-url@cam/";
        let variables = [(USER, "eve"), (PASSWORD, "of-variable")];
        assert_eq!(who(&args(None, None), "rtsp://cam/", &[]).unwrap(), None);
        assert_eq!(
            who(&args(None, None), in_url, &[]).unwrap(),
            pair("ann", "of-url")
        );
        assert_eq!(
            who(&args(None, None), in_url, &variables).unwrap(),
            pair("eve", "of-variable")
        );
        assert_eq!(
            who(&args(Some("bob"), Some(file.path())), in_url, &variables).unwrap(),
            pair("bob", "of-file")
        );
        let path = file.path().to_str().unwrap();
        assert_eq!(
            who(&args(None, None), in_url, &[(PASSWORD_FILE, path)]).unwrap(),
            pair("ann", "of-file")
        );
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        let error = |url: &str, env: &[(&str, &str)]| {
            format!("{:#}", who(&args(None, None), url, env).unwrap_err())
        };
        assert!(error("rtsps://cam/", &[]).contains("does not take rtsps"));
        assert!(error("rtsp://cam/", &[(PASSWORD, "hush")]).contains("--rtsp-user"));
        let none = error(
            "rtsp://cam/",
            &[(PASSWORD_FILE, "/nonexistent"), (USER, "a")],
        );
        assert!(
            none.contains("/nonexistent") && none.contains(PASSWORD_FILE),
            "{none}"
        );
        let broken = error("rtsp://admin:hu/sh@cam/", &[]);
        assert!(
            broken.contains("%40") && !broken.contains("sh@"),
            "{broken}"
        );
    }
}
