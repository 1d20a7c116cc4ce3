/** WiFi signal and network: /proc/net/wireless and nl80211 answers, byte by byte. */
import test from 'ava';
import { parseProcWireless } from '../../../src/daemon/signal.js';
import { MessageBuilder, parseMessages } from '../../../src/native/netlink/message.js';
import { NetlinkSocket } from '../../../src/native/netlink/socket.js';
import { genericFamily, parseSignal, parseWifiState } from '../../../src/native/netlink/wifi.js';

const PROC = `Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
wlp0s20f3: 0000   54.  -56.  -256        0      0      0      3    214        0
 wlan1: 0000   70.  203.  0.        0      0      0      0      0        0
 wlan2: 0000    0     0     0        0      0      0      0      0        0
 wlan3: 0000   30.   60.    0        0      0      0      0      0        0
`;

test('/proc/net/wireless: the level, signed or not, of the right interface', (t) => {
  t.is(parseProcWireless(PROC, 'wlp0s20f3'), -56);
  t.is(parseProcWireless(PROC, 'wlan1'), -53, 'a byte without its sign');
  t.is(parseProcWireless(PROC, 'wlan2'), null, 'not associated');
  t.is(parseProcWireless(PROC, 'wlan3'), null, 'on a scale of its own');
  t.is(parseProcWireless(PROC, 'wlan'), null);
  t.is(parseProcWireless('', 'wlan1'), null);
  t.is(parseProcWireless('wlan1: 0000', 'wlan1'), null);
});

const GENL_HEADER = Uint8Array.of(34, 1, 0, 0);
const ATTR_IFTYPE = 5;
const ATTR_STA_INFO = 21;
const ATTR_SSID = 52;
const message = (fill: (b: MessageBuilder) => MessageBuilder) =>
  parseMessages(Buffer.from(fill(new MessageBuilder(28, 0).fixed(GENL_HEADER)).finish(1)))[0]!;

test('nl80211: SSID and kind of an interface', (t) => {
  const state = (ssid: string | null, kind: number) =>
    parseWifiState(
      message((b) => (ssid === null ? b : b.attribute(ATTR_SSID, Buffer.from(ssid))).u32(ATTR_IFTYPE, kind)),
    );
  t.deepEqual(state('Café', 2), { ssid: 'Café', isStation: true });
  t.deepEqual(state(null, 2), { ssid: null, isStation: true }, 'not associated');
  t.deepEqual(state('phone', 8), { ssid: 'phone', isStation: true }, 'WiFi Direct, as client');
  t.deepEqual(state('hotspot', 3), { ssid: 'hotspot', isStation: false }, 'an access point of our own');
});

test('nl80211: the average signal, else the last one, as a signed byte', (t) => {
  const signal = (attributes: [number, number][]) =>
    parseSignal(
      message((b) =>
        b.nested(ATTR_STA_INFO, (info) => {
          for (const [type, dbm] of attributes) info.attribute(type, Uint8Array.of(dbm & 0xff));
        }),
      ),
    );
  t.is(signal([[7, -61]]), -61);
  t.is(
    signal([
      [7, -61],
      [13, -58],
    ]),
    -58,
  );
  t.is(signal([]), null);
  t.is(parseSignal(message((b) => b)), null);
});

test('generic netlink: families by name, as this kernel numbers them', (t) => {
  const socket = new NetlinkSocket(16);
  t.teardown(() => socket.close());
  t.is(genericFamily(socket, 'nlctrl'), 16);
  t.is(genericFamily(socket, 'no-such-family'), null);
});
