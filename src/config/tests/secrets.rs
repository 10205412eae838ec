//! Secrets: where they come from, and that nothing says them.

use super::*;

#[test]
fn secrets_come_from_where_they_are_kept() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let scram = format!("SCRAM-SHA-256$4096:AAAA${key}:{key}");
    let slow = format!("SCRAM-SHA-256$4000000000:AAAA${key}:{key}");
    let md5 = format!("md5{}", "0".repeat(32));
    let dir = directory(&[("secret", b"hunter2 \n"), ("crlf", b"hunter2\r\n"), ("scram", scram.as_bytes())]);
    let read = |line: &str| {
        let text = format!("{BASE}[[user]]\nname = 'u'\n{line}\n");
        let config = parse(&text, &dir.path().join("t.toml"));
        config.map(|c| c.users[0].secret.clone()).map_err(|problems| problems.to_string())
    };
    assert_eq!(read("password_file = 'secret'"), Ok(Secret::Password("hunter2 ".into())));
    assert_eq!(read("password_file = 'crlf'"), Ok(Secret::Password("hunter2".into())));
    assert_eq!(read("password_file = 'scram'"), Ok(Secret::ScramVerifier(scram.clone())));
    assert_eq!(read("password = 'x'"), Ok(Secret::Password("x".into())));
    assert_eq!(read(&format!("password = '{md5}'")), Ok(Secret::Password(md5.clone())));
    assert_eq!(read(&format!("verifier = '{scram}'")), Ok(Secret::ScramVerifier(scram.clone())));
    assert_eq!(read(&format!("verifier = '{md5}'")), Ok(Secret::Md5(md5.clone())));
    assert_eq!(read(""), Ok(Secret::None));
    assert!(read(&format!("verifier = '{slow}'")).unwrap_err().contains("must be a verifier"));
}

#[test]
fn files_that_are_no_good_for_a_secret() {
    let files: &[(&str, &[u8])] = &[
        ("empty", b"\n"),
        ("binary", b"\xffhunter2"),
        ("bad", b"SCRAM-SHA-256$hunter2"),
        ("open", b"hunter2"),
    ];
    let dir = directory(files);
    open_to(dir.path(), "open", 0o644);
    for (name, want) in [
        ("empty", "that file has no password in it"),
        ("binary", "that file has no password in it"),
        ("bad", "the verifier in it is not valid"),
        ("open", "defaultMode: 0440)"),
        (".", "it is not a file (give a path, from this file's directory, not the password)"),
    ] {
        let text = format!("{BASE}[[user]]\nname = 'u'\npassword_file = '{name}'\n");
        let got = parse(&text, &dir.path().join("t.toml")).unwrap_err().to_string();
        assert!(got.ends_with(want) && !got.contains("hunter2"), "{got}");
    }
}
