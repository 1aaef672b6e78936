// The status page: asks once a second, writes text into cells, and says so when it hears nothing.
'use strict';
const byId = (id) => document.getElementById(id);
let answeredAt = Date.now();

function age(ms) {
  if (ms < 10000) return (ms / 1000).toFixed(1) + ' s';
  if (ms < 120000) return Math.round(ms / 1000) + ' s';
  if (ms < 7200000) return Math.round(ms / 60000) + ' min';
  return Math.round(ms / 3600000) + ' h';
}

function shown(value) {
  if (value === null || value === undefined) return '—';
  if (typeof value === 'number') return String(Number(value.toPrecision(7)));
  return String(value);
}

// Fills a table body; cells are [text, class]. Rows and cells are used again, so that a selection survives.
function fill(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => {
    const row = body.rows[i] || body.insertRow();
    cells.forEach(([text, name], j) => {
      const cell = row.cells[j] || row.insertCell();
      if (cell.textContent !== text) cell.textContent = text;
      if (cell.className !== name) cell.className = name;
    });
  });
}

function show(s) {
  byId('gateway').textContent = s.gateway_id + ' · revision ' + s.revision;
  byId('health').textContent = s.health;
  byId('health').className = 'badge ' + s.health;
  byId('reason').textContent = s.reason;
  document.title = s.health + ' · StreamForge';
  byId('empty').hidden = s.points_total > 0;
  const cut = s.points.length < s.points_matching ? ', first ' + s.points.length + ' shown' : '';
  byId('count').textContent = s.points_matching + ' of ' + s.points_total + ' points' + cut;
  fill(byId('points'), s.points.map((p) => {
    const old = p.age_ms > 10000 ? ' old' : '';
    const value = shown(p.value) + (p.label ? ' (' + p.label + ')' : '');
    return [[p.asset, ''], [p.parameter, ''], [value, 'num' + old], [p.unit || '', ''],
      [p.quality + (p.reason ? ' ' + p.reason : ''), p.quality], [age(p.age_ms), 'num' + old], [p.adapter, '']];
  }));
  fill(byId('components'), s.components.map((c) => {
    const lag = c.lag_records === null || c.lag_records === undefined ? '' : String(c.lag_records);
    const why = c.reason + (c.breaker && c.breaker !== 'closed' ? ' (breaker ' + c.breaker.replace('_', '-') + ')' : '');
    return [[c.name, ''], [c.role + ' · ' + c.type, ''], [c.health, c.health], [why, 'why'], [lag, 'num'],
      [c.restarts === undefined ? '' : String(c.restarts), 'num']];
  }));
  fill(byId('topics'), s.topics.map((t) => [[t.name, ''], [t.records_per_s.toFixed(1), 'num'], [t.written, 'num']]));
  byId('rejected').hidden = !s.rejected;
  const problems = byId('problems');
  problems.replaceChildren(...(s.rejected ? s.rejected.problems : []).map((text) => {
    const item = document.createElement('li');
    item.textContent = text;
    return item;
  }));
}

async function ask() {
  try {
    const answer = await fetch('api/status?filter=' + encodeURIComponent(byId('filter').value), { cache: 'no-store' });
    show(await answer.json());
    answeredAt = Date.now();
  } catch (error) {
    // shown below: values must never look fresh when they are not
  }
  const silent = Date.now() - answeredAt;
  byId('stale').hidden = silent < 3000;
  byId('stale').textContent = 'The gateway has not answered for ' + age(silent) + '. What you see is old.';
  setTimeout(ask, 1000);
}

byId('filter').addEventListener('input', () => { byId('count').textContent = '…'; });
ask();
