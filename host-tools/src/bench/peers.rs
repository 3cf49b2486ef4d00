//! Figures of other engines, stored with how they were counted in `peers.toml`.

use serde::{Deserialize, Serialize};

const STORED: &str = include_str!("peers.toml");

/// What another engine takes for a model on a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Short name of the engine; the head of its column.
    pub engine: String,
    /// The model.
    pub model: String,
    /// The board.
    pub board: String,
    /// Instructions per inference.
    pub instructions: u64,
    /// Memory for activations and scratch, where the engine has an arena.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arena_bytes: Option<u64>,
    /// Code and constants without the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_bytes: Option<u64>,
    /// Most bytes of stack during an inference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    peer: Vec<Peer>,
}

/// Reads figures in the form of `peers.toml`.
///
/// # Errors
/// The place and nature of the fault, in words.
pub fn parse(text: &str) -> Result<Vec<Peer>, String> {
    toml::from_str::<File>(text).map(|file| file.peer).map_err(|error| error.to_string())
}

/// The stored figures.
#[must_use]
pub fn stored() -> Vec<Peer> {
    parse(STORED).expect("a test reads the stored figures")
}

/// The engines in the order in which `peers` first names them.
#[must_use]
pub fn engines(peers: &[Peer]) -> Vec<&str> {
    let mut engines: Vec<&str> = Vec::new();
    for peer in peers {
        if !engines.contains(&peer.engine.as_str()) {
            engines.push(&peer.engine);
        }
    }
    engines
}

/// The figures of an engine for a model on a board.
#[must_use]
pub fn find<'a>(peers: &'a [Peer], engine: &str, model: &str, board: &str) -> Option<&'a Peer> {
    peers.iter().find(|peer| (peer.engine.as_str(), peer.model.as_str(), peer.board.as_str()) == (engine, model, board))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::models::Model;
    use crate::board::emulated::Emulated;

    #[test]
    fn the_stored_figures_are_of_known_models_and_boards_and_unique() {
        let peers = stored();
        assert_eq!(engines(&peers), ["TFLM", "microflow"]);
        for peer in &peers {
            assert!(Model::ALL.iter().any(|model| model.name() == peer.model), "{peer:?}");
            assert!(Emulated::find(&peer.board).is_ok(), "{peer:?}");
            assert_eq!(find(&peers, &peer.engine, &peer.model, &peer.board), Some(peer));
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let fault = parse("[[peer]]\nengine = \"a\"\nmodel = \"b\"\nboard = \"c\"\ninstructions = 1\narena = 2\n");
        assert!(fault.unwrap_err().contains("arena"));
    }
}
