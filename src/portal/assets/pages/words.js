// Display names. The names of selectable events are fixed by the product.

/** The events that a push config can select, in the window's order. */
export const WEBHOOK_EVENTS = {
  new_session_started: 'New Session Started',
  ai_assistant_message: 'AI Assistant Message',
  user_message: 'User Message',
  transferred_to_live_agent: 'Transferred to Live Agent',
};

export const EVENTS = {
  ...WEBHOOK_EVENTS,
  human_agent_message: 'Human Agent Message',
  session_assigned: 'Session Assigned',
  session_resolved: 'Session Resolved',
};

/** Name and color of each outcome. */
const OUTCOMES = {
  delivered: ['Delivered', 'good'],
  http_error: ['Refused', 'bad'],
  redirect: ['Redirected', 'bad'],
  timeout: ['Timed out', 'bad'],
  dns_error: ['Name not found', 'bad'],
  connect_error: ['Not reachable', 'bad'],
  tls_error: ['TLS failed', 'bad'],
  protocol_error: ['Not HTTP', 'bad'],
  blocked_address: ['Address not allowed', 'bad'],
  gone: ['Gone', 'bad'],
  expired: ['Expired', 'wait'],
  interrupted: ['Interrupted', 'wait'],
  canceled: ['Canceled', ''],
  config_error: ['Invalid config', 'bad'],
  payload_too_large: ['Too large', 'bad'],
  throttled: ['Throttled', 'wait'],
};

/** @returns {{name: string, tone: string}} */
export function outcome(code) {
  if (code === null) return { name: 'In progress', tone: '' };
  const [name, tone] = OUTCOMES[code] ?? [code, ''];
  return { name, tone };
}
