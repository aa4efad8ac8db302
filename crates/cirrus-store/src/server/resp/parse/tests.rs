//! Streams in pieces, refused commands, limits.

use super::*;

/// The rest of a refused command passes by, whatever phase it was refused in.
#[test]
fn a_refused_command_leaves_nothing_behind() {
    let large = [&b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$20000\r\n"[..], &[7; 20_000], b"\r\n"].concat();
    let stream = [&large[..], b"*1\r\n$4\r\nping\r\n"].concat();
    for refused_at in (1..20_020).step_by(13) {
        let mut input: Input<Vec<u8>> = Input::new(BytesMut::new());
        input.set_trusted(true);
        let mut seen = Vec::new();
        for (at, byte) in stream.iter().enumerate() {
            match input.room() {
                Room::Small(buffer) => buffer.extend_from_slice(&[*byte]),
                Room::Large(rest) => {
                    rest[0] = *byte;
                    input.filled(1, b"");
                }
            }
            loop {
                match input.parse().unwrap() {
                    Next::More => break,
                    Next::Admit(len) => input.admit(vec![0; len]),
                    Next::Refused => seen.push(0),
                    Next::Command => seen.push(input.argument_count()),
                }
            }
            if at == refused_at && input.is_inside() {
                input.refuse();
            }
        }
        // Before anything of it could be told from an inline command, nothing is refused.
        let expected = if refused_at < 3 { [3, 1] } else { [0, 1] };
        assert_eq!(seen, expected, "refused behind {refused_at} bytes");
        assert!(!input.is_inside());
    }
}

#[test]
fn lengths_are_checked_before_anything_is_taken() {
    for (stream, expected) in [
        (&b"*1048577\r\n"[..], Broken::Text("Protocol error: invalid multibulk length")),
        (b"*1\r\n$536870913\r\n", Broken::Text("Protocol error: invalid bulk length")),
        (b"*1\r\n+x\r\n", Broken::NoBulk(b'+')),
    ] {
        let mut input: Input<Vec<u8>> = Input::new(BytesMut::from(stream));
        input.set_trusted(true);
        assert_eq!(input.parse().unwrap_err(), expected);
    }
    let mut input: Input<Vec<u8>> = Input::new(BytesMut::from(&b"*1048576\r\n"[..]));
    input.set_trusted(true);
    assert_eq!(input.parse(), Ok(Next::More));
    assert!(input.held_bytes() < 100, "{}", input.held_bytes());
}

#[test]
fn keys_are_seen_ahead_in_whole_commands_only() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n\
        *3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\nc\r\n";
    let keys: [&[u8]; 3] = [b"a", b"bb", b"c"];
    let mut input: Input<Vec<u8>> = Input::new(BytesMut::from(&stream[..]));
    assert_eq!(input.keys_ahead().collect::<Vec<_>>(), keys);
    assert_eq!(input.parse(), Ok(Next::Command));
    assert_eq!(input.keys_ahead().collect::<Vec<_>>(), keys[1..]);
    for cut in 0..stream.len() {
        let input: Input<Vec<u8>> = Input::new(BytesMut::from(&stream[..cut]));
        let whole = [20, 62, stream.len()].iter().filter(|end| **end <= cut).count();
        assert_eq!(input.keys_ahead().collect::<Vec<_>>(), keys[..whole], "cut at {cut}");
    }
    for stream in ["*99999\r\n$99999\r\n", "*2\r\n$99999\r\n$1\r\n", "get a\r\n", "*2\r\n*1\r\n"] {
        let input: Input<Vec<u8>> = Input::new(BytesMut::from(stream));
        assert_eq!(input.keys_ahead().count(), 0, "{stream:?}");
    }
}

/// The commands and the end of a stream whose bytes arrive in pieces of `piece` bytes.
fn parse(bytes: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, Option<Broken>) {
    let mut input: Input<Vec<u8>> = Input::new(BytesMut::new());
    let mut commands = Vec::new();
    for piece in bytes.chunks(piece) {
        match input.room() {
            Room::Small(buffer) => buffer.extend_from_slice(piece),
            Room::Large(_) => panic!("no argument here is large"),
        }
        loop {
            match input.parse() {
                Ok(Next::Command) => {
                    let argument = |index| match input.argument(index) {
                        Argument::Here(bytes) => bytes.to_vec(),
                        Argument::Large(_) => panic!("no argument here is large"),
                    };
                    commands.push((0..input.argument_count()).map(argument).collect());
                }
                Ok(Next::More) => break,
                Ok(other) => panic!("{other:?}"),
                Err(broken) => return (commands, Some(broken)),
            }
        }
    }
    (commands, None)
}

#[test]
fn a_command_that_is_here_whole_is_the_one_that_comes_in_pieces() {
    let streams: [&[u8]; 14] = [
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*1\r\n$4\r\nPI",
        b"*0\r\n*1\r\n$4\r\nPING\r\nPING\r\n",
        b"*-1\r\n*1\r\n$4\r\nPING\r\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n$04\r\nPING\r\n",
        b"*1\r\n$\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n+4\r\nPING\r\n",
        b"*1x\r\n$4\r\nPING\r\n",
        b"*1\rx$4\rxPINGxx*1\r\n$4\r\nPING\r\n",
        b"*11\r\n$1\r\na\r\n",
        b"*1\r\n$16385\r\n",
        b"*1\r\n$123456\r\n",
    ];
    for stream in streams {
        let shown = stream.escape_ascii();
        let expected = parse(stream, 1);
        for piece in [2, 3, 7, stream.len()] {
            assert_eq!(parse(stream, piece), expected, "{shown} by {piece}");
        }
    }
}
