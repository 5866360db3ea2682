package fedagg.bridge.state;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.Rows;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Real processes, killed at random moments: what they said was kept is there, each sample once. */
class KillTest {
  private static final int KILLS = Integer.getInteger("fedagg.kills", 12);

  @TempDir Path folder;

  /** Takes in samples for ever, acknowledges some batches and forgets some samples, and says what is done. */
  public static final class Victim {
    private Victim() {}

    public static void main(String[] arguments) throws Exception {
      try (DeviceState state = DeviceState.open(Paths.get(arguments[0]), "d1", 0)) {
        System.out.println("open");
        for (int i = 0; ; i++) {
          long counter =
              state.take(
                  Collections.singletonList(new float[] {i}), new int[] {7}, new byte[] {(byte) i, 1, 2}, 3, 1 << 30);
          System.out.println("took " + counter);
          if (i % 4 == 3) { // one that may wait, and one that may be at the parent
            state.forget(new long[] {counter - 1, counter / 2});
            System.out.println("forgot " + (counter - 1));
            System.out.println("forgot " + counter / 2);
          }
          if (i % 3 == 2) {
            state.begin();
            long key = state.pendingKey();
            long[] set = state.shared();
            TreeSet<Long> after = new TreeSet<>(Memory.asList(set));
            if (state.batchKind(key) == Messages.APPEND) {
              after.addAll(Memory.asList(Rows.loadEmbeddings(state.batchBytes(key), "d1", 9).counters));
            } else {
              after.removeAll(Memory.asList(Rows.loadSamples(state.batchBytes(key), "d1", 9).counters));
            }
            state.acknowledge(key, state.head() + 1, Digests.ofSamples("d1", Memory.longs(after)));
            state.commit();
            System.out.println("head " + state.head());
          }
        }
      }
    }
  }

  @Test
  void whatWasSaidToBeKeptIsThere() throws Exception {
    Random random = new Random(9);
    long last = -1;
    long head = 0;
    Set<Long> forgotten = new HashSet<>();
    String java = Paths.get(System.getProperty("java.home"), "bin", "java").toString();
    for (int kill = 0; kill < KILLS; kill++) {
      Process victim =
          new ProcessBuilder(
                  java, "-Xint", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"),
                  Victim.class.getName(), folder.toString())
              .redirectErrorStream(true)
              .start();
      int lines = 1 + random.nextInt(60);
      try (BufferedReader out =
          new BufferedReader(new InputStreamReader(victim.getInputStream(), StandardCharsets.US_ASCII))) {
        String line;
        boolean killed = false;
        int seen = 0;
        while ((line = out.readLine()) != null) { // also what it had said by the time that it was dead
          if (line.startsWith("took ")) {
            long counter = Long.parseLong(line.substring(5));
            assertTrue(counter > last, "counter " + counter + " was given twice");
            last = counter;
          } else if (line.startsWith("forgot ")) {
            forgotten.add(Long.parseLong(line.substring(7)));
          } else if (line.startsWith("head ")) {
            head = Long.parseLong(line.substring(5));
          } else {
            assertEquals("open", line);
          }
          if (++seen >= lines && !killed) {
            Thread.sleep(0, random.nextInt(999_999));
            victim.toHandle().destroyForcibly(); // SIGKILL; Process.destroyForcibly would close the stream, too
            killed = true;
          }
        }
        assertTrue(killed, "the victim ended by itself");
      }
      victim.waitFor();
      try (DeviceState state = DeviceState.open(folder, "d1")) {
        Set<Long> here = new HashSet<>(Memory.asList(state.counters()));
        for (long counter = 0; counter <= last; counter++) {
          // what was to be forgotten as the kill came may be gone without a word; it is one pair at most
          boolean gone = forgotten.contains(counter) || !here.contains(counter) && (counter == last - 1 || counter == last / 2);
          assertTrue(gone || here.contains(counter), "sample " + counter + " was said to be kept");
          assertFalse(forgotten.contains(counter) && here.contains(counter), "sample " + counter + " was said to be gone");
          if (gone) {
            forgotten.add(counter);
          }
        }
        for (long key : state.pendingKeys()) { // nothing of it waits for the parent
          if (state.batchKind(key) == Messages.APPEND) {
            long[] rows = Rows.loadEmbeddings(state.batchBytes(key), "d1", 9).counters;
            assertTrue(here.containsAll(Memory.asList(rows)), Arrays.toString(rows));
          }
        }
        assertTrue(state.head() >= head, "entry " + head + " was said to be kept");
        last = state.number("counter", 0) - 1;
        head = state.head();
      }
    }
  }
}
