package fedagg.bridge.agent;

import fedagg.bridge.state.Durable;
import fedagg.bridge.wire.Digests;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** A file whose last 32 bytes are the SHA-256 of those before: it is whole, or counts as none. */
final class Sealed {
  private static final int SEAL = 32;

  private Sealed() {}

  static void write(Path path, byte[] body) throws IOException {
    byte[] all = Arrays.copyOf(body, body.length + SEAL);
    System.arraycopy(Digests.of(body), 0, all, body.length, SEAL);
    Durable.replace(path, all);
  }

  /** Null if there is none that is whole. */
  static byte[] read(Path path) throws IOException {
    if (!Files.exists(path)) {
      return null;
    }
    byte[] all = Files.readAllBytes(path);
    byte[] body = Arrays.copyOf(all, Math.max(0, all.length - SEAL));
    return Arrays.equals(Digests.of(body), Arrays.copyOfRange(all, body.length, all.length)) ? body : null;
  }
}
