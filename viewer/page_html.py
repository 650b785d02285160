"""What the page of viser lacks, as HTML in its panel: files can be dropped anywhere, phones show the picture, and no
notice of slow graphics hides it."""

from __future__ import annotations

# The code is in `onload`, since browsers do not run scripts in inserted HTML. A dropped file goes to the upload button,
# whose input is the first one of the page, and is missing while the panel is folded. On a screen as narrow as a phone,
# the panel is a sheet at the foot, which viser unfolds over 60 % of the page; on one as low as a phone on its side, it
# is a column. Either is folded once. viser says in front of the picture, until that is closed, that the browser draws
# without a graphics processor, which is all that it needs here.
_SCRIPT = """
const fold = open => {
  const buttons = [...document.querySelectorAll('[role=button][aria-expanded=' + open + ']')];
  const found = buttons.find(button => /collapse|minimize|expand/i.test(button.ariaLabel));
  if (found) found.click();
};
const pass = (file, tries) => {
  const input = document.querySelector('input[type=file]');
  if (!input) {
    if (tries === 0) fold(false);
    if (tries < 50) setTimeout(() => pass(file, tries + 1), 100);
    return;
  }
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
};
window.ondragover = event => event.preventDefault();
window.ondrop = event => {
  event.preventDefault();
  if (event.dataTransfer.files.length) pass(event.dataTransfer.files[0], 0);
};
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
    return f"""<img hidden alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" onload="{script}">"""


def unfolding(section: str) -> str:
    """HTML that unfolds a section of the panel, which viser cannot do."""
    return _page(_UNFOLD.replace("SECTION", section))


PAGE = _page(_SCRIPT)
