//! Measuring with `stitchkit-device`: on a machine reached over ssh, or here, also under an emulator.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, bail};
use stitchkit::board::protocol::Session;

/// How the program is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProgram {
    /// Host to start it on, as ssh takes it; `None`: this machine.
    pub ssh: Option<String>,
    /// Path or name of the program, there.
    pub program: String,
    /// Words to put in front of it, for instance an emulator and its options.
    pub runner: Vec<String>,
}

impl DeviceProgram {
    /// Sends the bundle and returns what the program reported.
    pub fn run(&self, bundle: &[u8]) -> anyhow::Result<Session> {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.starter()))?;
        let mut input = child.stdin.take().context("no standard input")?;
        // The program reads all of the bundle before it says anything. Where it cannot be started, writing fails; its exit
        // status says more.
        let _ = input.write_all(bundle);
        drop(input);
        self.session(child)
    }

    fn session(&self, child: Child) -> anyhow::Result<Session> {
        let output = child.wait_with_output().with_context(|| format!("cannot read from {}", self.starter()))?;
        if !output.status.success() {
            bail!("{}", self.failure(output.status));
        }
        Ok(Session::read(output.stdout.as_slice())?)
    }

    fn command(&self) -> Command {
        let words = self.runner.iter().chain([&self.program]).map(String::as_str).chain(["profile", "-"]);
        let Some(host) = &self.ssh else {
            let mut words = words;
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words);
            return command;
        };
        let mut command = Command::new("ssh");
        command.arg("--").arg(host).arg(words.map(quoted).collect::<Vec<_>>().join(" "));
        command
    }

    /// The program that this machine starts.
    fn starter(&self) -> &str {
        match &self.ssh {
            Some(_) => "ssh",
            None => self.runner.first().unwrap_or(&self.program),
        }
    }

    fn failure(&self, status: ExitStatus) -> String {
        let on = self.ssh.as_ref().map_or(String::new(), |host| format!(" on {host}"));
        let hint = match (status.code(), &self.ssh) {
            (Some(126 | 127), _) => "; is it there? Its path is given with --device-binary",
            (Some(255), Some(_)) => "; that is ssh's own status: try `ssh HOST true`",
            _ => "",
        };
        format!("{}{on} ended with {status}{hint}", self.program)
    }
}

/// A word that a POSIX shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_other_shell_unchanged() {
        let device = DeviceProgram {
            ssh: Some("-oProxyCommand=evil".to_owned()),
            program: "/opt/it's here".to_owned(),
            runner: Vec::new(),
        };
        let command = device.command();
        let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        assert_eq!(args, ["--", "-oProxyCommand=evil", r"'/opt/it'\''s here' 'profile' '-'"]);
    }

    #[test]
    fn a_runner_stands_before_the_program() {
        let runner = vec!["qemu-aarch64".to_owned(), "-L".to_owned(), "/usr/aarch64-linux-gnu".to_owned()];
        let device = DeviceProgram { ssh: None, program: "stitchkit-device".to_owned(), runner };
        assert_eq!(device.starter(), "qemu-aarch64");
        let command = device.command();
        let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        assert_eq!(args, ["-L", "/usr/aarch64-linux-gnu", "stitchkit-device", "profile", "-"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_is_not_there_or_says_nothing_is_named() {
        let device = |program: &str| DeviceProgram { ssh: None, program: program.to_owned(), runner: Vec::new() };
        let said = format!("{:#}", device("/nowhere/stitchkit-device").run(&[0; 1 << 20]).unwrap_err());
        assert!(said.contains("/nowhere/stitchkit-device"), "{said}");
        assert!(device("false").run(&[0; 1 << 20]).unwrap_err().to_string().contains("false ended with"));
        assert!(device("true").run(&[]).unwrap_err().to_string().contains("@stitchkit"));
    }
}
