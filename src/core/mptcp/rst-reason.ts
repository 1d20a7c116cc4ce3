/** Reasons of MP_TCPRST (RFC 8684 3.6). */
export const RST_REASON = {
  unspecified: 0,
  mptcp: 1,
  resources: 2,
  prohibited: 3,
  outstanding: 4,
  performance: 5,
  middlebox: 6,
} as const;
