package fedagg.bridge.wire;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** SHA-256 and hexadecimal. */
public final class Digests {
  private Digests() {}

  public static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new AssertionError("every Java has SHA-256", error);
    }
  }

  /** The 32 raw bytes. */
  public static byte[] of(byte[] data) {
    return sha256().digest(data);
  }

  /** Lower-case hexadecimal. */
  public static String hex(byte[] data) {
    StringBuilder text = new StringBuilder(2 * data.length);
    for (byte one : data) {
      text.append(Character.forDigit(one >> 4 & 15, 16)).append(Character.forDigit(one & 15, 16));
    }
    return text.toString();
  }

  /**
   * The digest of the set of {@code origin}'s samples with these counters, ascending (docs/records.md). An origin without
   * samples is left out.
   */
  public static byte[] ofSamples(String origin, long[] counters) {
    MessageDigest digest = sha256();
    digest.update("fedagg/sample-set/1\n".getBytes(StandardCharsets.US_ASCII));
    if (counters.length > 0) {
      byte[] name = origin.getBytes(StandardCharsets.US_ASCII);
      digest.update(big(name.length, 2));
      digest.update(name);
      digest.update(big(counters.length, 8));
      for (long counter : counters) {
        digest.update(big(counter, 8));
      }
    }
    return digest.digest();
  }

  private static byte[] big(long value, int width) {
    byte[] bytes = new byte[width];
    for (int i = 0; i < width; i++) {
      bytes[i] = (byte) (value >>> 8 * (width - 1 - i));
    }
    return bytes;
  }
}
