"""What the page of viser lacks, as HTML in its panel: files can be dropped anywhere, phones show the picture, and no
notice of slow graphics hides it."""

from __future__ import annotations

import html

# Label of the upload button.
OPEN = "open or compare …"
# The code is in `onload`, since browsers do not run scripts in inserted HTML. Dropped files go to the upload button,
# whose input is missing while the panel is folded; several, or a folder, go as one archive. Keys with Ctrl act in
# fields, too, and do not move the camera. Browsers give what a finger touches its further events, which viser takes
# for a drag of a handle, so that a tap chose nothing. On a screen as narrow as a phone, the panel is a sheet at the
# foot, which viser unfolds over 60 % of the page; on one as low as a phone on its side, it is a column. Either is
# folded once. viser says in front of the picture, until that is closed, that the browser draws without a graphics
# processor, which is all that it needs here. viser's strip of times knows the mouse alone.
_SCRIPT = """
const fold = open => {
  const buttons = [...document.querySelectorAll('[role=button][aria-expanded=' + open + ']')];
  const found = buttons.find(button => /collapse|minimize|expand/i.test(button.ariaLabel));
  if (found) found.click();
};
const upload = () => {
  const inputs = [...document.querySelectorAll('input[type=file]')];
  return inputs.find(input => input.parentElement.textContent.startsWith('OPEN'));
};
const pass = (input, file) => {
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
};
const send = (file, tries) => {
  const input = upload();
  if (input) pass(input, file);
  else if (tries) {
    if (tries === 50) fold(false);
    setTimeout(() => send(file, tries - 1), 100);
  }
};
const table = [...Array(256).keys()].map(number => {
  for (let bit = 0; bit < 8; bit++) number = number & 1 ? 0xedb88320 ^ (number >>> 1) : number >>> 1;
  return number;
});
const crc = bytes => {
  let sum = -1;
  for (const byte of bytes) sum = table[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
};
const header = (signature, ...fields) => {
  const view = new DataView(new ArrayBuffer(4 + fields.reduce((sum, [size]) => sum + size, 0)));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view;
};
const archive = async entries => {
  const parts = [], list = [];
  let offset = 0, length = 0;
  for (const [path, file] of entries) {
    const bytes = new Uint8Array(await file.arrayBuffer()), name = new TextEncoder().encode(path);
    const size = bytes.length;
    const facts = [[2, 0x800], [2, 0], [4, 0x210000], [4, crc(bytes)], [4, size], [4, size], [2, name.length], [2, 0]];
    parts.push(header(0x04034b50, [2, 20], ...facts), name, bytes);
    list.push(header(0x02014b50, [2, 20], [2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), name);
    offset += 30 + name.length + size;
    length += 46 + name.length;
  }
  const count = entries.length;
  const end = header(0x06054b50, [2, 0], [2, 0], [2, count], [2, count], [4, length], [4, offset], [2, 0]);
  return new File([...parts, ...list, end], 'files.zip');
};
const inside = async (entry, path) => {
  if (entry.isFile) return [[path + entry.name, await new Promise((good, bad) => entry.file(good, bad))]];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((good, bad) => reader.readEntries(good, bad));
    if (!some.length) return found;
    for (const one of some) found.push(...await inside(one, path + entry.name + '/'));
  }
};
window.ondragover = event => event.preventDefault();
const sent = async list => {
  try {
    send(list.length > 1 ? await archive(list) : list[0][1], 50);
  } catch (error) {
    alert('The files cannot be read: ' + error);
  }
};
window.ondrop = async event => {
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry && item.webkitGetAsEntry());
  const found = [];
  for (const [number, file] of files.entries()) {
    const entry = entries[number];
    found.push(...entry && entry.isDirectory ? await inside(entry, '') : [[file.name, file]]);
  }
  if (found.length) sent(found);
};
const press = key => document.body.dispatchEvent(new KeyboardEvent('keydown', {
  key, code: 'Key' + key.toUpperCase(), ctrlKey: true, bubbles: true
}));
const listen = event => {
  if (!event.isTrusted || !(event.ctrlKey || event.metaKey) || event.altKey) return;
  const key = event.key.toLowerCase(), field = event.target.tagName === 'INPUT';
  if (key === 'o') {
    event.preventDefault();
    if (!upload()) fold(false);
    if (upload()) upload().click();
  } else if ('zys'.includes(key) && (field || event.shiftKey) && !event.target.closest('[role=dialog]')) {
    event.preventDefault();
    event.stopPropagation();
    event.target.blur();
    press(key === 'z' && event.shiftKey ? 'y' : key);
  }
};
const mouse = (kind, target, {clientX, clientY}) =>
  target.dispatchEvent(new MouseEvent(kind, {clientX, clientY, bubbles: true}));
let held = false;
const hold = event => {
  const touch = event.changedTouches[0], strip = event.target.closest('.multi-slider');
  if (!strip) return;
  event.preventDefault();
  const away = thumb => Math.abs(thumb.getBoundingClientRect().x + thumb.offsetWidth / 2 - touch.clientX);
  const near = [...strip.querySelectorAll('.multi-slider-thumb')].sort((one, other) => away(one) - away(other))[0];
  held = near && away(near) < 24;
  if (held) mouse('mousedown', near, touch);
};
const follow = kind => event => {
  if (held) mouse(kind, document, event.changedTouches[0]);
  held = held && kind === 'mousemove';
};
if (!window.listens) {
  window.listens = true;
  window.addEventListener('touchstart', hold, {capture: true, passive: false});
  window.addEventListener('touchmove', follow('mousemove'), true);
  for (const end of ['touchend', 'touchcancel']) window.addEventListener(end, follow('mouseup'), true);
  window.addEventListener('keydown', listen, true);
  window.addEventListener('pointerdown', event => {
    const canvas = event.target;
    if (canvas.tagName !== 'CANVAS' || canvas.taken) return;
    const taken = canvas.taken = new Set();
    canvas.hasPointerCapture = id => taken.has(id);
    canvas.setPointerCapture = id => {
      Element.prototype.setPointerCapture.call(canvas, id);
      taken.add(id);
    };
    canvas.addEventListener('lostpointercapture', lost => taken.delete(lost.pointerId));
  }, true);
  document.documentElement.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey) event.stopPropagation();
  });
  window.addEventListener('click', event => {
    if (event.target === upload()) event.target.multiple = true;
  }, true);
  window.addEventListener('change', event => {
    const input = event.target;
    if (input.type !== 'file' || input.files.length < 2) return;
    event.stopPropagation();
    sent([...input.files].map(file => [file.name, file]));
  }, true);
}
const quiet = tries => {
  const notices = [...document.querySelectorAll('.mantine-Notification-root')];
  const found = notices.find(notice => /software webgl/i.test(notice.textContent));
  if (found) found.querySelector('button').click();
  else if (tries) setTimeout(() => quiet(tries - 1), 200);
};
if (!window.quiet) {
  window.quiet = true;
  quiet(50);
}
let sheet = this;
while (sheet && getComputedStyle(sheet).position !== 'fixed') sheet = sheet.parentElement;
if (sheet) {
  sheet.style.setProperty('max-height', '50%', 'important');
  const handle = [...sheet.querySelectorAll('div')].find(part => part.style.height === '3.5em');
  if (handle && !sheet.dataset.folded) handle.click();
  sheet.dataset.folded = 'once';
} else if (matchMedia('(max-height: 500px) and (pointer: coarse)').matches && !window.foldedColumn) {
  window.foldedColumn = true;
  fold(true);
}
"""
_UNFOLD = """
const parts = [...document.querySelectorAll('.mantine-Paper-root')];
const closed = part => part.querySelector('[class*=chevron-down]');
const title = parts.find(part => part.textContent.trim() === 'SECTION' && closed(part));
if (title) title.click();
"""


def _page(script: str) -> str:
    """HTML that shows nothing and runs a script."""
    code = html.escape(script)
    return f"""<img hidden alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" onload="{code}">"""


def unfolding(section: str) -> str:
    """HTML that unfolds a section of the panel, which viser cannot do."""
    return _page(_UNFOLD.replace("SECTION", section))


PAGE = _page(_SCRIPT.replace("OPEN", OPEN))
