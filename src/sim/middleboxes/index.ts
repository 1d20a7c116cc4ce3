export { BitFlipper, Duplicator, Reorderer } from './disorder.js';
export { type PayloadEdit, PayloadEditor, ProxyAcker, RstInjector } from './meddle.js';
export { NarrowRouter } from './narrow.js';
export {
  OPTION_MPTCP,
  OPTION_SACK,
  OPTION_SACK_PERMITTED,
  OPTION_TIMESTAMPS,
  OptionFilter,
  type OptionFilterConfig,
} from './options.js';
export { Coalescer, Splitter } from './resegment.js';
export { IsnRewriter, Nat, StaticNat } from './rewrite.js';
