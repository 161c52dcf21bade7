"""Style and script of the page of pairs."""

CSS = """
.bar { display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; margin: 1rem 0; }
.bar input { font: inherit; padding: .2rem .4rem; width: 10rem; }
button { font: inherit; padding: .35rem .9rem; border: 1px solid #b9c1ca; border-radius: .4rem;
  background: #f5f7f9; cursor: pointer; }
button:hover { background: #e6eaee; }
.pair:not([hidden]) { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
.side { border: 2px solid #d8dde3; border-radius: .6rem; padding: .5rem .8rem .8rem;
  cursor: pointer; touch-action: manipulation; }
.side:hover, .side:focus { border-color: #33658a; outline: none; }
.side.chosen { border-color: #1f6f5c; background: #f0f7f4; }
.side h2 { border: 0; margin: 0 0 .3rem; padding: 0; }
.side svg { display: block; width: 100%; height: auto; }
.film { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 4px;
  margin-bottom: .5rem; }
.film img { width: 100%; image-rendering: pixelated; }
.film.plays { display: block; max-width: 20rem; }
.bar.last { position: sticky; bottom: 0; margin-bottom: 0; padding: .6rem 0; background: #fff;
  border-top: 1px solid #d8dde3; }
@media (max-width: 40rem) {
  .pair:not([hidden]) { grid-template-columns: minmax(0, 1fr); }
  .film.plays { max-width: 12rem; }
}
"""

# No "<" or "&": the page is XML too.
SCRIPT = """
'use strict';
const facts = JSON.parse(document.getElementById('facts').dataset.facts);
const pairs = Array.from(document.querySelectorAll('.pair'));
const answers = new Array(pairs.length).fill(null);
const annotator = document.getElementById('annotator');
let at = 0, unsaved = false, beat = 0;
function show() {
  pairs.forEach(function (pair, number) {
    pair.hidden = number !== at;
    pair.querySelectorAll('.side').forEach(function (side) {
      const wanted = side.dataset.side === '2' ? 1 : 0;
      side.classList.toggle('chosen', answers[number] === wanted);
    });
  });
  const given = answers.filter(function (label) { return label !== null; }).length;
  const last = pairs.length === at;
  document.getElementById('place').textContent =
    (last ? 'end' : 'pair ' + (at + 1) + ' of ' + pairs.length) + ', ' + given + ' answered';
  document.getElementById('done').hidden = !last;
}
function answer(label) {
  if (at === pairs.length) { return; }
  answers[at] = label;
  unsaved = answers.some(function (given) { return given !== null; });
  at += 1;
  beat = 0;
  window.scrollTo(0, 0);
  show();
}
function back() { at = Math.max(0, at - 1); show(); }
function save() {
  const given = [];
  answers.forEach(function (label, number) {
    if (label !== null) { given.push(Object.assign({label: label}, facts.pairs[number])); }
  });
  const file = {format: facts.format, page: facts.page, log_hash: facts.log_hash,
    length: facts.length, annotator: annotator.value.trim(), answers: given};
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)],
    {type: 'application/json'}));
  link.download = 'answers-' + facts.page + '.json';
  document.body.appendChild(link);
  link.click();
  link.remove();
  unsaved = false;
}
// Frames of the pair that is shown play one after the other, and the last stays for a while.
const films = Array.from(document.querySelectorAll('.film'));
function play() {
  films.forEach(function (film) {
    const last = film.children.length - 1;
    const now = Math.min(beat % (last + 5), last);
    Array.from(film.children).forEach(function (frame, number) { frame.hidden = number !== now; });
  });
  beat += 1;
}
if (films.length) {
  if (!window.matchMedia('(prefers-reduced-motion: reduce)').matches) {
    films.forEach(function (film) { film.classList.add('plays'); });
    setInterval(play, facts.interval);
    play();
  }
}
document.querySelectorAll('.side').forEach(function (side) {
  side.addEventListener('click', function () { answer(side.dataset.side === '2' ? 1 : 0); });
  side.addEventListener('keydown', function (event) {
    if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); side.click(); }
  });
});
window.addEventListener('beforeunload', function (event) {
  if (unsaved) { event.preventDefault(); }
});
const keys = {'1': function () { answer(0); }, '2': function () { answer(1); },
  's': function () { answer(0.5); }, 'k': function () { answer(null); }, 'b': back};
document.addEventListener('keydown', function (event) {
  if (event.target === annotator || event.ctrlKey || event.metaKey || event.altKey) { return; }
  const act = keys[event.key.toLowerCase()];
  if (act) { event.preventDefault(); act(); }
});
document.getElementById('first').addEventListener('click', keys['1']);
document.getElementById('second').addEventListener('click', keys['2']);
document.getElementById('same').addEventListener('click', keys.s);
document.getElementById('skip').addEventListener('click', keys.k);
document.getElementById('back').addEventListener('click', back);
document.getElementById('save').addEventListener('click', save);
show();
"""
