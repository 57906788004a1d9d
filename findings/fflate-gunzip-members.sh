#!/bin/bash
# fflate's gunzipSync of two gzip members gives the first bytes of the first one, as many as the second one has.
#
# Guess:    a gunzip function gives all members, or, if it knows only one, the first; or it throws.
# Reality:  it takes the length of the output from the last four bytes of the file, where the length of the last member stands,
#           and inflates the first member into that. A first member of 700 bytes and a second of 300 give the first 300 of the
#           700, without an error; decompressSync too. If the second is the longer one, the first comes out whole, and the
#           second not. The streaming Gunzip of the same package, pako 3 and Node's zlib give all bytes.
# Versions: fflate 0.8.3; pako 3.0.3 and Node.js 20.20 for comparison.
# Hurts:    web viewers and scripts that read archives and logs made by appending gzip members (a member each night), or
#           bgzip's, whose last member is empty: from those comes nothing at all.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm install --silent --no-audit --no-fund --prefix . fflate@0.8.3 pako@3.0.3 >/dev/null
node - <<'JS'
const zlib = require("zlib"), fflate = require("fflate"), pako = require("pako")
const version = (name) => name + " " + require(name + "/package.json").version
console.log("Node.js " + process.version, version("fflate"), version("pako"))

const streamed = (bytes) => {
  const parts = []
  const gunzip = new fflate.Gunzip((part) => parts.push(part))
  gunzip.push(bytes, true)
  return Buffer.concat(parts)
}
const readers = {
  "zlib.gunzipSync": zlib.gunzipSync, "pako.ungzip": pako.ungzip, "fflate.Gunzip": streamed,
  "fflate.gunzipSync": fflate.gunzipSync, "fflate.decompressSync": fflate.decompressSync,
}
for (const second of [300, 2000, 0]) {
  const file = Buffer.concat([Buffer.alloc(700, "a"), Buffer.alloc(second, "b")].map((part) => zlib.gzipSync(part)))
  for (const [name, read] of Object.entries(readers)) {
    const bytes = Buffer.from(read(file))
    const count = (letter) => bytes.filter((byte) => byte === letter.charCodeAt(0)).length
    const got = `${count("a")} a, ${count("b")} b`
    console.log(`700 a and ${second} b, ${name}: ${got}`)
    const wanted = name.endsWith("ssSync") || name === "fflate.gunzipSync" ? `${Math.min(700, second)} a, 0 b` : `700 a, ${second} b`
    if (got !== wanted || bytes.length !== count("a") + count("b")) {
      console.error("no longer so: expected " + wanted)
      process.exit(1)
    }
  }
}
JS
