package fedagg.bridge.wire;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;

/** The files of tests/wire that Python's tests are held to, too. */
public final class Fixtures {
  private Fixtures() {}

  /** The repository. */
  public static Path root() {
    return Paths.get(System.getProperty("fedagg.root", "."));
  }

  /** How many damaged files a test looks at; fewer where Java is interpreted under emulation, which takes long for a SHA-256. */
  public static int trials() {
    return Integer.getInteger("fedagg.trials", 3000);
  }

  static byte[] message(String name) throws IOException {
    return Files.readAllBytes(root().resolve("tests/wire/fixtures/" + name + ".msgpack"));
  }

  static byte[] array(String name) throws IOException {
    return Files.readAllBytes(root().resolve("tests/wire/arrays/" + name + ".bin"));
  }
}
