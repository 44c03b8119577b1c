const find = (selector) => document.querySelector(selector);

/** The CSRF token. The server gives out another at login and logout, so it is read anew for each request. */
function csrfToken() {
  const cookies = new Map(document.cookie.split('; ').map((pair) => pair.split('=')));
  return cookies.get('__Host-XSRF-TOKEN') ?? cookies.get('XSRF-TOKEN') ?? '';
}

async function api(method, path, body) {
  const headers = { 'X-XSRF-TOKEN': csrfToken() };
  if (body) headers['Content-Type'] = 'application/json';
  const response = await fetch(`/api/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const answer = response.status === 204 ? undefined : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.message), { status: response.status });
  return answer;
}

/** Shows the sign-in form to a visitor, the list to a user. */
async function show(name) {
  const todos = name ? await api('GET', 'todos') : [];
  find('#name').textContent = name;
  find('#todos').replaceChildren(...todos.map(item));
  find('#visitor').hidden = Boolean(name);
  find('#user').hidden = !name;
  find(name ? '#text' : '#username').focus();
}

function item(todo) {
  const element = find('#todo').content.cloneNode(true).firstElementChild;
  const box = element.querySelector('input');
  element.querySelector('span').textContent = todo.text;
  box.checked = todo.done;
  box.onchange = attempt(() => api('PATCH', `todos/${todo.id}`, { done: box.checked }));
  element.querySelector('button').onclick = attempt(async () => {
    await api('DELETE', `todos/${todo.id}`);
    element.remove();
  });
  return element;
}

/** Says what went wrong; whoever signed out in another tab is shown the sign-in form. */
function attempt(action) {
  return async (event) => {
    event?.preventDefault();
    let problem = '';
    try {
      await action(event);
    } catch (error) {
      if (error.status === 401) await show(null);
      problem = error.message;
    }
    for (const message of document.querySelectorAll('.message')) {
      message.textContent = problem;
      message.hidden = !problem;
    }
  };
}

find('#login').onsubmit = attempt(async ({ target }) => {
  const { name } = await api('POST', 'session', Object.fromEntries(new FormData(target)));
  target.reset();
  await show(name);
});

find('#logout').onclick = attempt(async () => {
  await api('DELETE', 'session');
  await show(null);
});

find('#add').onsubmit = attempt(async ({ target }) => {
  const todo = await api('POST', 'todos', Object.fromEntries(new FormData(target)));
  target.reset();
  find('#todos').append(item(todo));
});

await attempt(async () => show((await api('GET', 'session')).name))();
