// Creates tokens for users of the service under test, and posts events to the service as the platform does.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';

import { env } from './test.mjs';

/** The portal's address without a trailing slash. */
export const origin = env('PORTAL');
export const TENANT = env('TENANT');

/** A user's token, as the deployment's identity provider issues it. */
export function token(user, role = 'operator', { seconds = 600 } = {}) {
  const claims = { sub: user, tenant_id: TENANT, role, exp: Math.floor(Date.now() / 1000) + seconds };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  const signature = crypto.createHmac('sha256', env('JWT_SECRET')).update(signed).digest('base64url');
  return `${signed}.${signature}`;
}

/** Calls the API; returns the JSON of a successful response. */
export async function api(method, path, bearer, body) {
  const answer = await fetch(`${origin}/v1/${path}`, {
    method,
    headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  assert(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text === '' ? null : JSON.parse(text);
}

/** Posts an event of a session as the platform. */
export async function post(type, session, more = {}) {
  const event = { type, agent_id: 'agent-1', session_id: session, tenant_id: TENANT, ...more };
  return await api('POST', 'events', env('SERVICE_TOKEN'), event);
}

export const assign = (session, user) => post('session_assigned', session, { assignee_id: user });
export const say = (session, text) => post('user_message', session, { text });
export const transfer = (session) => post('transferred_to_live_agent', session);
export const resolve = (session) => post('session_resolved', session);

/** The browsers of a user. */
export const browsersOf = async (user) => (await api('GET', 'me/push-subscriptions', token(user))).data;

/** The deliveries of a session so far, the latest first. */
export async function outcomes(session) {
  const { data } = await api('GET', `deliveries?channel=browser_push&session_id=${session}`, token('admin', 'admin'));
  return data.map(({ outcome }) => outcome);
}
