//! The deepest path through a program's calls.

use std::collections::HashMap;

use super::Frame;
use super::flow::{Callee, Needs, follow};
use super::image::Image;
use super::name::readable;

/// Bounds of functions, each found once.
#[derive(Debug)]
pub struct Graph<'i, 'f> {
    image: &'i Image<'f>,
    found: HashMap<u32, Found>,
    /// Functions that are being looked at, the caller first.
    open: Vec<u32>,
    /// What has no bound, and why.
    pub faults: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    bytes: u32,
    /// Whom the deepest path calls, and at which depth.
    next: Option<(u32, u32)>,
}

impl<'i, 'f> Graph<'i, 'f> {
    /// Nothing is known of `image` yet.
    #[must_use]
    pub fn new(image: &'i Image<'f>) -> Self {
        Self { image, found: HashMap::new(), open: Vec::new(), faults: Vec::new() }
    }

    /// Most bytes in use from a function on. What has no bound is put into [`Graph::faults`] and counts 0.
    pub fn depth(&mut self, start: u32) -> u32 {
        if let Some(found) = self.found.get(&start) {
            return found.bytes;
        }
        if let Some(at) = self.open.iter().position(|&function| function == start) {
            let cycle: Vec<String> = self.open[at..].iter().chain([&start]).map(|&start| self.name(start)).collect();
            self.faults.push(format!("recursion: {}", cycle.join(" calls ")));
            return 0;
        }
        let needs = follow(self.image, start).unwrap_or_else(|fault| {
            self.faults.push(format!("{}: {fault}", self.name(start)));
            Needs::default()
        });
        self.open.push(start);
        let mut found = Found { bytes: needs.own_bytes, next: None };
        for (callee, depth) in self.callees(start, &needs) {
            let bytes = depth.saturating_add(self.depth(callee));
            if bytes > found.bytes {
                found = Found { bytes, next: Some((callee, depth)) };
            }
        }
        self.open.pop();
        self.found.insert(start, found);
        found.bytes
    }

    /// The path that needs [`Graph::depth`].
    pub fn path(&mut self, start: u32) -> Vec<Frame> {
        self.depth(start);
        let mut path = Vec::new();
        let mut here = start;
        while let Some(&Found { bytes, next }) = self.found.get(&here) {
            let function = self.name(here);
            let Some((callee, depth)) = next else {
                path.push(Frame { function, bytes });
                break;
            };
            path.push(Frame { function, bytes: depth });
            here = callee;
        }
        path
    }

    /// Functions called and the depths they are called at; through a register every function whose address is stored.
    fn callees(&mut self, start: u32, needs: &Needs) -> Vec<(u32, u32)> {
        let mut callees = Vec::new();
        for (&callee, &depth) in &needs.calls {
            match callee {
                Callee::At(address) => callees.push((address, depth)),
                Callee::Register if self.image.taken().is_empty() => {
                    let name = self.name(start);
                    self.faults
                        .push(format!("{name} calls through a register, and no address of a function is stored"));
                }
                Callee::Register => callees.extend(self.image.taken().iter().map(|&address| (address, depth))),
            }
        }
        callees
    }

    /// Name of a function for people.
    #[must_use]
    pub fn name(&self, start: u32) -> String {
        readable(&self.image.name(start))
    }
}
