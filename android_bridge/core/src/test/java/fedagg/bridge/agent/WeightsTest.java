package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WeightsTest {
  @TempDir Path folder;

  @Test
  void theNewestIsReadAndADamagedOneGivesWayToTheOneBefore() throws Exception {
    assertNull(Weights.load(folder));
    new Weights(3, 4, "edge-a", new byte[] {1, 2}).save(folder);
    new Weights(5, 6, "edge-b", new byte[] {3}).save(folder);
    Weights found = Weights.load(folder);
    assertEquals(5, found.done);
    assertEquals(6, found.trained);
    assertEquals("edge-b", found.parent);
    assertArrayEquals(new byte[] {3}, found.state);
    byte[] whole = Files.readAllBytes(folder.resolve("weights"));
    for (int length = 0; length < whole.length; length++) {
      Files.write(folder.resolve("weights"), Arrays.copyOf(whole, length));
      assertEquals(3, Weights.load(folder).done, "a file cut at " + length);
    }
    Files.delete(folder.resolve("weights")); // a kill between the two renames
    assertEquals(3, Weights.load(folder).done);
  }
}
