// Refreshes the page in place and filters the versions. Without it the page shows the same.
'use strict';

const SECONDS = 15;
const box = document.getElementById('refresh');
const lost = document.getElementById('lost');

function filter() {
  const field = document.getElementById('filter');
  const said = document.getElementById('filtered');
  if (!field || !said) return;
  const wanted = field.value.trim().toLowerCase();
  const versions = [...document.querySelectorAll('.version')];
  for (const version of versions) {
    version.hidden = !version.querySelector('h4').textContent.toLowerCase().includes(wanted);
  }
  const shown = versions.filter((version) => !version.hidden).length;
  said.textContent = wanted ? `${shown} of ${versions.length} versions on this page` : '';
}

function show() {
  for (const element of document.querySelectorAll('.script')) element.hidden = false;
  const field = document.getElementById('filter');
  if (field) {
    field.addEventListener('input', filter);
    // Enter must not send the form of the experiment, which would read the page anew.
    field.addEventListener('keydown', (event) => { if (event.key === 'Enter') event.preventDefault(); });
  }
}

// Somebody who types, chooses or selects text is not disturbed.
function busy() {
  const at = document.activeElement;
  return (at && at.matches('main input, main select')) || !getSelection().isCollapsed;
}

async function refresh() {
  if (!box.checked || document.hidden || busy()) return;
  try {
    const response = await fetch(location.pathname + location.search, { cache: 'no-store' });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
    const main = document.querySelector('main');
    const open = new Map([...main.querySelectorAll('details[id]')].map((one) => [one.id, one.open]));
    const text = document.getElementById('filter')?.value ?? '';
    const focused = place(main, document.activeElement);
    for (const one of fresh.querySelectorAll('details[id]')) if (open.has(one.id)) one.open = open.get(one.id);
    main.replaceChildren(...fresh.querySelector('main').childNodes);
    document.getElementById('read').replaceWith(fresh.getElementById('read'));
    document.title = fresh.title;
    show();
    if (text) { document.getElementById('filter').value = text; filter(); }
    if (focused !== null) main.querySelectorAll(REACHED)[focused]?.focus({ preventScroll: true });
    lost.textContent = '';
  } catch (error) {
    lost.textContent = `This page is no longer read: ${error.message}.`;
  }
}

const REACHED = 'a, button, input, select, summary, [tabindex]';

// The place of an element among those that the keyboard reaches; it has the same one after most refreshes.
function place(main, element) {
  const index = [...main.querySelectorAll(REACHED)].indexOf(element);
  return index < 0 ? null : index;
}

show();
setInterval(refresh, SECONDS * 1000);
document.addEventListener('visibilitychange', refresh);
