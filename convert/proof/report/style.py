"""How the report looks: on light and on dark paper, on a phone and printed."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --band: #edf0f3; --bar: #cfe3f3; --good: #0a6640; --bad: #b3261e;
  --s0: #0072b2; --s1: #b84f00; --s2: #007a57; --s3: #9c4a7e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16181d; --ink: #e6e8eb; --soft: #a3abb5; --line: #3b414b;
    --band: #23272e; --bar: #1f4a66; --good: #5fd39f; --bad: #ff8a80;
    --s0: #56b4e9; --s1: #e69f00; --s2: #22b88c; --s3: #e29bc6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 48rem; padding: 1.25rem 1rem 3rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; break-after: avoid; }
p { margin: .5rem 0; }
.verdict { border: 1px solid var(--line); border-left: .4rem solid var(--good); border-radius: .4rem;
  padding: .6rem 1rem; }
.verdict strong { color: var(--good); font-size: 1.15rem; }
.verdict.failed { border-left-color: var(--bad); }
.failed strong { color: var(--bad); }
.box { margin-top: 1rem; overflow: auto; max-height: 24rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-top: 1px solid var(--line); }
tbody th { font-weight: normal; color: var(--soft); }
thead th { border-top: 0; vertical-align: bottom; }
.facts th { width: 8rem; }
.box th, .box td { overflow-wrap: normal; }
.box tbody th { min-width: 11rem; overflow-wrap: anywhere; }
.box td { min-width: 5rem; }
.box td.list { min-width: 10rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
tr { break-inside: avoid; }
figure { margin: .5rem 0 0; break-inside: avoid; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
summary { margin-top: .75rem; cursor: pointer; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.25rem; margin: 0; font-size: .9rem; }
.legend span::before { content: ""; display: inline-block; width: 1.1rem; margin-right: .4rem;
  border-top: 3px solid; vertical-align: middle; }
.legend .dot::before { width: 0; border: .25rem solid; border-radius: 50%; }
.legend .first::before { border-top-style: dashed; }
.legend .first { color: var(--bad); }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); }
.apart { color: var(--bad); } .same { color: var(--good); }
.plot { display: grid; grid-template-columns: 4.5rem minmax(0, 1fr); }
svg { font-size: 12px; fill: none; }
text { fill: var(--ink); stroke: none; text-anchor: middle; }
.scale, .field { width: 100%; height: 300px; overflow: visible; }
.scale text, text.end { text-anchor: end; }
circle { fill: currentColor; }
path, line { stroke: currentColor; vector-effect: non-scaling-stroke; stroke-width: 1.2; }
.broad { opacity: .35; stroke-width: 5; }
.broad, .field path { stroke-linejoin: round; stroke-linecap: round; }
.grid, .grid line { stroke: var(--line); stroke-width: 1; }
.band { fill: var(--band); }
g.first line { stroke: var(--bad); stroke-dasharray: 4 3; stroke-width: 1.6; }
g.first text { fill: var(--bad); font-weight: bold; }
.start { text-anchor: start; }
.column rect { fill: transparent; }
.column text { visibility: hidden; text-anchor: start; }
.column:hover rect { fill: var(--ink); opacity: .25; }
.column:hover text { visibility: visible; }
.square { display: block; width: 100%; max-width: 26rem; height: auto; }
.up { transform: rotate(-90deg); }
.points { stroke: var(--s0); stroke-width: 4; stroke-linecap: round; opacity: .7; }
.picture { display: grid; grid-template-columns: 7rem minmax(0, 1fr); gap: 0 1rem; margin-top: 1.5rem; }
.picture table { table-layout: fixed; }
.picture thead th { padding-right: 0; overflow-wrap: normal; }
.picture img { max-width: 100%; border-radius: .3rem; }
.share { background: linear-gradient(var(--bar), var(--bar)) left / var(--share) 100% no-repeat;
  padding-left: .4rem; }
@media (max-width: 40rem) { .facts th { width: 6rem; }
  .picture { grid-template-columns: 4.5rem minmax(0, 1fr); } }
@media print { :root { color-scheme: light; } .box { max-height: none; overflow: visible; } }
"""
