//! Golden hashes, in the order of the cases; printed by `cargo run --example print-golden`.

/// FNV-1a of the output of each case.
#[rustfmt::skip]
pub(crate) const GOLDEN: &[u32] = &[
    0x5b0fbdf9, // 1x1
    0xbc3bbd21, // 1x1 on odd addresses
    0xa48b2266, // 1x1 on addresses 2 mod 4
    0xc9b9b3d6, // 1x1, one channel in and out
    0x43048b20, // 1x1, 3 to 5 channels
    0xb69b3871, // 1x1, 6 to 6 channels
    0x28b89892, // 1x1, 7 to 1 channels
    0xbd064b45, // 1x1, 64 to 3 channels
    0x2a403f7c, // 1x1, 257 to 4 channels
    0x646be91a, // 1x1, 8 to 130 channels
    0xeb5ed3ea, // 1x1 with stride 2
    0x07196abf, // 1x1 with padding
    0xd5f538a4, // 1x1, as many positions in narrower rows
    0xa6843987, // 1x1, as many positions in wider rows
    0xce28f0f0, // 1x1, more rows than the input
    0xa5da0bc3, // 1x1, fewer rows than the input
    0xc6d2ba92, // 1x1, fewer columns than the input
    0x452802b0, // grouped 1x1, as many positions in narrower rows
    0xf6745409, // stitching layer, 32 to 48 channels
    0x6f0a59b7, // 3x3, same
    0xb4de33c8, // 3x3, same, on odd addresses
    0xd7825dde, // 3x3, valid
    0xa637fd6f, // 3x3, 3 to 16 channels
    0xb7400983, // 3x3, 1 to 5 channels
    0xc6c6a92e, // 3x3, 5 to 7 channels
    0x281883ae, // 3x3, 16 to 16 channels
    0x951d8544, // 3x3, 64 to 2 channels
    0xc18be32a, // 3x3, stride 2, padding below and right
    0x15aa4bb2, // 3x3, stride 2, padding on all sides
    0x4ab3b312, // 3x3, stride 3 by 1
    0xf9df30de, // 3x3, dilation 2
    0x383b8716, // 3x3, dilation 1 by 3, odd padding
    0x9c8249c1, // 3x3, padding as wide as the kernel
    0xf7660d2e, // 3x3 over a single position
    0x1d1a6d44, // 3x3 over a single row
    0x4c98b574, // 5x5, same
    0x2f8d79fa, // 5x3, stride 1 by 2, asymmetric padding
    0xbed17b37, // 7x7, stride 2
    0xeeb73afc, // 10x4, stride 2, as keyword spotting begins
    0x92cf2820, // 1x3 along a row
    0xc52b8ca3, // 2 groups
    0xac124440, // 3 groups of 3 to 2 channels
    0x7dd4269b, // grouped 1x1, 4 groups
    0xa93e848a, // as many groups as channels
    0x44c31a87, // residual, 3x3
    0xb4a25478, // residual, 3x3, odd channels and addresses
    0x8465b7f2, // residual, 1x1 with stride
    0x3b9fc072, // residual on ties
    0x17ac7058, // residual, grouped
    0x8baf6a48, // clamped on both sides
    0x8bfa4f65, // clamped to one value
    0x837f8265, // zero point 127
    0x168208ad, // padding value -128
    0xca9b63e5, // padding value 127
    0x1f560289, // zero multipliers
    0xf4a783ff, // ties
    0xbe5569d0, // ties, 3x3
    0x2bf084a3, // shifts below 32
    0x7025782b, // shifts from 1
    0xaeb258a0, // shifts from 31 to 34
    0x674a02c5, // shifts to 62
    0x4962f6ce, // all shifts, even channels
    0x01890f8b, // all shifts, odd channels
    0x092a8816, // largest multiplier
    0xcb5a1845, // largest multiplier, shift 62
    0x32d32305, // largest multiplier, shift 1
    0x17c19805, // highest sums
    0x8ff91fa5, // lowest sums
    0xc506d1bc, // sums on the rails
    0xb5751d05, // extreme accumulators
    0xa701cf6f, // highest sums over 1024 taps
    0x6e5a9635, // constant input and weights
    0x1f4d7447, // fully connected, one row
    0xf70a1c9b, // fully connected, one row, odd sizes
    0xa098c780, // fully connected, 2 rows
    0x7882baa5, // fully connected, 49 rows
    0xb1c9e3c8, // fully connected, 7 rows, odd sizes
    0x94f033ce, // fully connected, 640 to 10 features
    0x190c7c9b, // fully connected, one feature
    0x2a8d5938, // woven, 32 to 10 features
    0x50db0d36, // woven, 8 to 2 features
    0x0c55e06e, // woven, 128 to 20 features
    0x67196f2f, // woven, 136 to 6 features
    0x854c060d, // woven, 640 to 12 features
    0xf7c5b2be, // woven, on odd addresses
    0xe80418db, // woven, sums on the rails
    0xd531e339, // woven, sums beyond 24 bits
    0x168534e7, // woven, shifts below 32
    0x748f5cb8, // woven, shifts from 1
    0x890b5efd, // woven, ties
    0x5c1258e1, // woven, extreme accumulators
    0xbf850e6e, // depthwise 3x3
    0xdce567a3, // depthwise 3x3 on odd addresses
    0xafaff849, // depthwise, 5 channels
    0xe50340cf, // depthwise, 1 channel
    0x190da842, // depthwise, 67 channels
    0x3a541dd9, // depthwise, stride 2, asymmetric padding
    0x7a03c898, // depthwise, dilation 2
    0xe81c3eb3, // depthwise 5x5
    0x48cbce4f, // depthwise 1x1
    0x5c804fa1, // depthwise, residual
    0x1a8b1209, // depthwise, ties
    0x6bc58285, // depthwise, extreme accumulators
    0xb0f699f1, // depthwise, all shifts
    0x7ebd99d1, // depthwise, zero multipliers
    0xf9e2d64b, // depthwise over a single position
    0x430cf1c0, // add
    0x9a3e16ce, // add in place
    0x378602a8, // add on odd addresses, odd length
    0x929b1342, // add in place on odd addresses, odd length
    0x896eaece, // add on ties
    0x5faa55e2, // add in place on ties
    0x7d6e7465, // add, largest constants
    0x28ebb9d6, // add, largest multipliers
    0xd1e0242c, // add, negative multiplier
    0x40b05a3e, // add, clamped
    0xa70bc925, // add, one element
    0x8590b1f0, // max pool 2x2
    0xd53ea48e, // max pool 3x3, stride 2, padded
    0xa58a94c5, // max pool 3x2, stride 1, asymmetric padding
    0x63a94128, // max pool over everything
    0xeaf4b10d, // average pool 2x2
    0x2f632311, // average pool 3x3, stride 1, padded
    0xed38c889, // average pool over 8x8
    0x2c440b4c, // average pool, clamped
    0x558ff42f, // average pool, input zero point -128
    0x12c37440, // average pool on ties
    0xe6e59d3d, // average pool, zero multiplier
    0x48e6927e, // table
    0x6b19ecdb, // table in place
    0xcb639d41, // softmax, 10 classes
    0x4a8eca6b, // softmax, 7 rows of 13
    0xb2831625, // softmax, all equal
    0x117697cd, // softmax, two equal
    0x4487b77d, // softmax, saturated
    0x0719f0b1, // softmax, one class
    0x148c813a, // softmax, rows of 1000
    0xee275c05, // softmax, flat table
    0x33dc232f, // transpose h w c to w h c
    0xf5510e11, // transpose h w c to c h w
    0xeccb85bb, // transpose h w c to h c w
    0x84c0c31f, // transpose h w c to w c h
    0x426dec94, // transpose to the same
    0xc72e3738, // transpose all axes
    0x018a2d90, // layer norm
    0xbd275d29, // layer norm on odd addresses, odd channels
    0xb5f94a09, // layer norm, one channel
    0x8645b76c, // layer norm, 513 channels
    0xd6dd16b4, // layer norm, small values
    0xf5cd6a9c, // layer norm, all equal
    0x87eb2891, // layer norm, rails
    0x90e92cac, // layer norm, large epsilon
    0xcd72d28d, // layer norm, clamped
    0xe723dc4b, // layer norm, zero point 127
    0xd412281a, // layer norm, least shift
    0x38465a05, // layer norm, largest shift and gains
    0x15acc150, // layer norm, largest gains
    0xd94de434, // layer norm, saturated
    0x45ac4cae, // layer norm, some gains zero
    0xd954dd0d, // attention
    0x52acdbae, // attention on odd addresses
    0x4f80fd1e, // attention, 64 tokens on a grid
    0x53cbf51f, // attention, 66 tokens
    0xa0d588ee, // attention, one token
    0x0b093f1e, // attention, two tokens
    0x3818c468, // attention, 3 and 5 features
    0x61d89873, // attention, 20 and 36 features
    0x37af449a, // attention, 70 and 18 features
    0xf9beb88c, // attention, 130 and 1 features
    0xf9d875ba, // attention, head after head
    0x1a7ebf02, // attention, head after head, odd features
    0x3f9d5e6e, // attention, no scores
    0x52d8699d, // attention, least multiplier
    0xa1c811f7, // attention, largest multiplier
    0xe66444eb, // attention, on the rails
    0x241bb185, // attention, all lowest
    0x30cff60b, // attention, small values
    0x9b9a6131, // attention, clamped
    0xf93f93bc, // attention, zero point -128
    0xf454a730, // attention, zero point 127
    0x67247d35, // attention, zero multiplier
    0x72fe5958, // attention, least shift
    0x5f729b85, // attention, largest shift
    0x62df6303, // concat before and after
    0x8acae9b3, // concat nothing
    0x843ae9e7, // slice
    0x3804eef5, // slice, one token
];
