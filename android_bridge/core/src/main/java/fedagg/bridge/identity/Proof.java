package fedagg.bridge.identity;

import fedagg.bridge.wire.Digests;
import java.nio.charset.StandardCharsets;

/** The text that proves possession of a key (docs/identity.md). */
final class Proof {
  private Proof() {}

  static byte[] text(
      String purpose, String federation, String node, String role, double time, byte[] binding, byte[] publicKey) {
    String[] lines = {
      "fedagg/proof/1", purpose, federation, node, role, Long.toString((long) time), Digests.hex(binding),
      Digests.hex(Digests.of(publicKey))
    };
    return (String.join("\n", lines) + "\n").getBytes(StandardCharsets.US_ASCII);
  }
}
