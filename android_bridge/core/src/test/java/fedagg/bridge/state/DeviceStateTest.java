package fedagg.bridge.state;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import fedagg.bridge.wire.ChildState.StorageException;
import fedagg.bridge.wire.ChildState.TakenEntry;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Knowledge;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.MsgpackWriter;
import fedagg.bridge.wire.ProtocolException;
import fedagg.bridge.wire.Rows;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DeviceStateTest {
  private static final long ROOM = 1 << 20;

  @TempDir Path folder;
  private DeviceState state;

  @BeforeEach
  void open() throws StorageException {
    state = DeviceState.open(folder, "d1", 0);
  }

  @AfterEach
  void close() throws StorageException {
    state.close();
  }

  private void again() throws StorageException {
    state.close();
    state = DeviceState.open(folder, "d1");
  }

  private long take(int... labels) throws StorageException, OutboxFullException {
    List<float[]> xs = new ArrayList<>();
    byte[] codes = new byte[2 * labels.length];
    for (int i = 0; i < labels.length; i++) {
      xs.add(new float[] {labels[i], 0.5f});
      codes[2 * i] = (byte) labels[i];
      codes[2 * i + 1] = 77;
    }
    return state.take(xs, labels, codes, 2, ROOM);
  }

  private void acknowledge(long entry, long... set) throws ProtocolException, StorageException {
    state.begin();
    state.acknowledge(state.pendingKey(), entry, Digests.ofSamples("d1", set));
    state.commit();
  }

  private static TakenEntry entry(long number, int kind, byte[] payload, long rows, long... set) {
    return new TakenEntry(number, kind, rows, Digests.ofSamples("d1", set), payload);
  }

  @Test
  void aClosedStateWritesNothingThatTheNextOwnerWouldFind() throws Exception {
    take(1);
    state.close();
    state.close();
    try (DeviceState next = DeviceState.open(folder, "d1")) {
      for (int i = 0; i < 2; i++) { // the second time it must not have opened the journal again
        assertTrue(assertThrows(StorageException.class, () -> take(2)).getMessage().contains("open it again"));
      }
      assertArrayEquals(new long[] {0}, next.counters());
    }
    state = DeviceState.open(folder, "d1");
    assertArrayEquals(new long[] {0}, state.counters());
  }

  @Test
  void samplesAndTheirBatchAreThereAfterARestart() throws Exception {
    assertEquals(0, take(3, 4));
    assertEquals(2, take(5));
    again();
    assertArrayEquals(new long[] {0, 1, 2}, state.counters());
    assertArrayEquals(new float[] {4, 0.5f}, state.sample(1));
    assertEquals(5, state.label(2));
    assertEquals(0, state.pendingKey());
    assertEquals(2, state.batchRows(0));
    Rows sent = Rows.loadEmbeddings(state.batchBytes(1), "d1", 9);
    assertArrayEquals(new long[] {2}, sent.counters);
    assertArrayEquals(new byte[] {5, 77}, sent.codes);
    assertEquals(3, take(6)); // counters go on
  }

  @Test
  void aCommittedBatchLeavesTheOutboxForTheLog() throws Exception {
    take(3, 4);
    take(5);
    acknowledge(1, 0, 1);
    assertEquals(1, state.pendingKey());
    again();
    assertEquals(1, state.head());
    assertArrayEquals(new long[] {0, 1}, state.shared());
    assertArrayEquals(Digests.ofSamples("d1", new long[] {0, 1}), state.headDigest());
    acknowledge(2, 0, 1, 2);
    assertEquals(-1, state.pendingKey());
    assertEquals(0, state.outboxBytes());
    assertArrayEquals(new long[] {0, 1}, state.named(Digests.ofSamples("d1", new long[] {0, 1})));
    assertArrayEquals(new long[] {0, 1, 2}, state.named(state.headDigest()));
    assertNull(state.named(new byte[32]));
  }

  @Test
  void anAnswerThatDoesNotFitChangesNothing() throws Exception {
    take(3, 4);
    for (int bad = 0; bad < 2; bad++) {
      int which = bad;
      state.begin();
      assertThrows(
          ProtocolException.class,
          () -> state.acknowledge(0, 1 + which, Digests.ofSamples("d1", new long[] {which == 0 ? 9 : 0, 1})));
      state.rollback();
      assertEquals(0, state.head());
      assertEquals(0, state.pendingKey());
    }
    acknowledge(1, 0, 1);
    acknowledge(1, 0, 1); // no batch waits: key -1 is nobody's
    assertEquals(1, state.head());
  }

  @Test
  void whatIsForgottenIsErasedFromTheDiskAndAtTheParent() throws Exception {
    state.take(
        Collections.singletonList(new float[] {123.25f}), new int[] {1},
        "SECRETCODE".getBytes(StandardCharsets.US_ASCII), 10, ROOM);
    take(5);
    acknowledge(1, 0);
    acknowledge(2, 0, 1);
    state.forget(new long[] {0, 44});
    assertArrayEquals(new long[] {1}, state.counters());
    assertEquals(Messages.FORGET, state.batchKind(state.pendingKey()));
    acknowledge(3, 1);
    assertFalse(journalHas("SECRETCODE"));
    again();
    assertArrayEquals(new long[] {1}, state.shared());
    assertArrayEquals(new long[] {0, 1}, state.named(Digests.ofSamples("d1", new long[] {0, 1})));
    state.forget(new long[] {0});
    assertEquals(-1, state.pendingKey());
  }

  private void takeSecret() throws Exception {
    state.take(
        Arrays.asList(new float[] {1}, new float[] {2}), new int[] {1, 0},
        "SECRETCODEPUBLICCODE".getBytes(StandardCharsets.US_ASCII), 10, ROOM);
  }

  private boolean journalHas(String text) throws Exception {
    return new String(Files.readAllBytes(folder.resolve("journal")), StandardCharsets.ISO_8859_1).contains(text);
  }

  @Test
  void whatIsForgottenLeavesTheBatchesThatWait() throws Exception {
    takeSecret();
    state.forget(new long[] {0});
    again();
    Rows left = Rows.loadEmbeddings(state.batchBytes(0), "d1", 9);
    assertArrayEquals(new long[] {1}, left.counters);
    assertArrayEquals("PUBLICCODE".getBytes(StandardCharsets.US_ASCII), left.codes);
    assertEquals(1, state.batchRows(0));
    assertFalse(journalHas("SECRETCODE"));
    acknowledge(1, 1);
    assertArrayEquals(new long[] {0}, Rows.loadSamples(state.batchBytes(state.pendingKey()), "d1", 9).counters);
    acknowledge(2, 1);
    assertEquals(0, state.outboxBytes());
  }

  @Test
  void aBatchMayHaveBeenCommittedBeforeRowsOfItWereForgotten() throws Exception {
    takeSecret();
    state.forget(new long[] {0, 1});
    again();
    assertEquals(0, state.batchRows(0));
    acknowledge(1, 0, 1); // the answer, late
    assertArrayEquals(new long[] {0, 1}, state.shared());
    assertArrayEquals(new long[0], state.counters());
    acknowledge(2);
    assertArrayEquals(new long[0], state.shared());
  }

  /** One before it is sent, one before its answer comes: the answer names the set between. */
  @ParameterizedTest
  @ValueSource(strings = {"0 1 2", "1 2", "2", ""})
  void aBatchMayHaveBeenSentBetweenAnyTwoErasures(String set) throws Exception {
    take(1, 2, 3);
    for (long counter = 0; counter < 3; counter++) {
      state.forget(new long[] {counter});
    }
    again(); // each erasure has rewritten the journal
    take(4);
    again();
    long[] sent = Arrays.stream(set.split(" ")).filter(s -> !s.isEmpty()).mapToLong(Long::parseLong).toArray();
    acknowledge(1, sent);
    again();
    assertArrayEquals(sent, state.shared());
    assertArrayEquals(Digests.ofSamples("d1", sent), state.headDigest());
  }

  @Test
  void aSampleThatWaitsToBeForgottenDoesNotComeBackWithTheParentsLog() throws Exception {
    takeSecret();
    byte[] payload = state.batchBytes(0);
    state.forget(new long[] {0});
    state.begin();
    state.follow(entry(1, Messages.APPEND, payload, 2, 0, 1));
    state.commit();
    assertNull(state.code(0));
    assertArrayEquals(new long[] {1}, state.counters());
  }

  /** A kill, or a disk without room, between the change and the rewrite: the next owner erases. */
  @Test
  void whatWasForgottenBeforeAKillIsErasedWhenTheStateIsOpened() throws Exception {
    assumeTrue(Files.exists(Paths.get("/dev/full")));
    takeSecret();
    acknowledge(1, 0, 1);
    Files.createSymbolicLink(folder.resolve("journal.new"), Paths.get("/dev/full"));
    state.forget(new long[] {0});
    assertTrue(journalHas("SECRETCODE"));
    again();
    assertFalse(journalHas("SECRETCODE"));
    acknowledge(2, 1);
    byte[] unforgotten = Files.readAllBytes(folder.resolve("journal"));
    again();
    assertArrayEquals(unforgotten, Files.readAllBytes(folder.resolve("journal"))); // there is nothing to erase twice
  }

  @Test
  void anOrderOfTheParentErasesToo() throws Exception {
    take(3, 4);
    acknowledge(1, 0, 1);
    state.begin();
    state.follow(entry(2, Messages.FORGET, Rows.samples(new long[] {1}).dump("d1"), 1, 0));
    state.commit();
    again();
    assertArrayEquals(new long[] {0}, state.counters());
    state.begin();
    assertThrows(
        ProtocolException.class, () -> state.follow(entry(3, Messages.RELEASE, new byte[0], 0)));
    state.rollback();
  }

  @Test
  void rowsThatAParentStillHadComeBackWithoutWhatIsPrivate() throws Exception {
    byte[] payload = Rows.embeddings(new long[] {7, 8}, new int[] {1, -1}, new byte[] {1, 2, 3, 4}, 2).dump("d1");
    state.begin();
    state.follow(entry(1, Messages.APPEND, payload, 2, 7, 8));
    state.join();
    state.commit();
    again();
    assertArrayEquals(new long[] {7, 8}, state.counters());
    assertNull(state.sample(7));
    assertArrayEquals(new byte[] {3, 4}, state.code(8));
    assertEquals(9, take(5)); // a counter that was never given
  }

  private static TakenEntry mine(long number, long key, int kind, long[] named, long... set) {
    byte[] payload =
        kind == Messages.FORGET
            ? Rows.samples(named).dump("d1")
            : Rows.embeddings(named, new int[named.length], new byte[2 * named.length], 2).dump("d1");
    return new TakenEntry(number, kind, named.length, Digests.ofSamples("d1", set), payload, key);
  }

  private void follow(TakenEntry... entries) throws Exception {
    for (TakenEntry entry : entries) {
      state.begin();
      state.follow(entry);
      state.commit();
    }
  }

  private void join() throws StorageException {
    state.begin();
    state.join();
    state.commit();
  }

  @Test
  void aStateIsNewUntilItHasJoinedWhateverStartsAgain() throws Exception {
    assertFalse(state.joined());
    take(1);
    again();
    assertFalse(state.joined());
    join();
    join();
    assertTrue(state.joined());
    assertEquals(0, state.pendingKey()); // there was no state before
    again();
    assertTrue(state.joined());
    assertEquals(1, take(2));
  }

  @Test
  void numbersOfTwoNewStatesAreNotTheSame() throws Exception {
    try (DeviceState one = DeviceState.open(folder.resolve("one"), "d1");
        DeviceState other = DeviceState.open(folder.resolve("other"), "d1")) {
      long first = one.take(Collections.singletonList(new float[1]), new int[1], new byte[1], 1, ROOM);
      long second = other.take(Collections.singletonList(new float[1]), new int[1], new byte[1], 1, ROOM);
      assertTrue(first >= 0 && second >= 0 && first < 1L << 52 && second < 1L << 52 && first != second);
    }
  }

  /** What waits in it may have been asked for. */
  @Test
  void aStateOfAnOlderVersionIsNotNew() throws Exception {
    state.close();
    Files.delete(folder.resolve("journal"));
    Journal journal = Journal.open(folder.resolve("journal"), new ArrayList<>());
    MsgpackWriter out = new MsgpackWriter();
    Operations.text(out, "node", "d1");
    journal.append(out.toBytes());
    journal.close();
    state = DeviceState.open(folder, "d1");
    assertTrue(state.joined());
    assertEquals(0, take(1));
    follow(mine(1, 4, Messages.APPEND, new long[] {6, 8}, 6, 8));
    assertEquals(9, take(2)); // what its parent's log names is not given again there either
    assertArrayEquals(new long[] {0, 5}, state.pendingKeys());
  }

  @Test
  void aLogNamesWhatANodeGaveBeforeItLostItsState() throws Exception {
    follow(
        mine(1, 3, Messages.APPEND, new long[] {2, 5}, 2, 5), mine(2, 7, Messages.FORGET, new long[] {5, 6}, 2),
        mine(3, -1, Messages.FORGET, new long[] {9}, 2)); // only the order names a sample that was erased
    again();
    join();
    again();
    assertEquals(10, take(1));
    assertArrayEquals(new long[] {8}, state.pendingKeys());
  }

  @ParameterizedTest
  @ValueSource(longs = {1L << 61, 1L << 62, Long.MAX_VALUE})
  void aNumberThatNobodyGetsToByCountingRaisesNothing(long number) throws Exception {
    follow(mine(1, number, Messages.APPEND, new long[] {4, number}, 4, number));
    join();
    state.putNumber("n", 1);
    again();
    assertEquals(5, take(1));
    assertArrayEquals(new long[] {0}, state.pendingKeys());
    state.forget(new long[] {number}); // rewrites the journal
    again();
    assertEquals(6, take(1));
  }

  @Test
  void whatWaitsWhenANodeHearsOfItsLostStateGetsNewKeys() throws Exception {
    state.close();
    Files.delete(folder.resolve("journal"));
    state = DeviceState.open(folder, "d1", 100);
    take(1, 2);
    take(3);
    state.forget(new long[] {101});
    List<byte[]> before = waiting();
    follow(mine(1, 1, Messages.APPEND, new long[] {0, 1}, 0, 1), mine(2, 6, Messages.APPEND, new long[] {2}, 0, 1, 2));
    assertArrayEquals(new long[] {0, 1, 2}, state.pendingKeys());
    join();
    for (int i = 0; i < 2; i++) {
      assertArrayEquals(new long[] {7, 8, 9}, state.pendingKeys());
      List<byte[]> after = waiting();
      for (int batch = 0; batch < 3; batch++) {
        assertArrayEquals(before.get(batch), after.get(batch));
      }
      join();
      again();
    }
    acknowledge(3, 0, 1, 2, 100);
    assertEquals(103, take(4));
  }

  private List<byte[]> waiting() {
    List<byte[]> all = new ArrayList<>();
    for (long key : state.pendingKeys()) {
      all.add(state.batchBytes(key));
    }
    return all;
  }

  /** That it has not these rows says not that it has forgotten them; what it was told to forget since, it has. */
  @Test
  void aNodeThatLosesItsStateAndMovesHasNothingForgottenThatItLacks() throws Exception {
    follow(mine(1, 0, Messages.APPEND, new long[] {5, 6}, 5, 6));
    state.forget(new long[] {6});
    state.beginMove("https://other.example:1");
    state.begin();
    state.rebase(
        Arrays.asList(
            mine(1, -1, Messages.APPEND, new long[] {5, 6}, 5, 6), mine(2, 4, Messages.APPEND, new long[] {7}, 5, 6, 7)), 1);
    state.commit();
    again();
    assertTrue(state.joined());
    assertArrayEquals(new long[] {5, 7}, state.counters());
    assertEquals(1, state.pendingKeys().length);
    assertArrayEquals(new long[] {6}, Rows.loadSamples(state.batchBytes(state.pendingKey()), "d1", 9).counters);
    assertTrue(state.pendingKey() > 4);
    assertEquals(8, take(1));
  }

  /** A kill at any byte: it goes on with the next entry, and sends nothing before the last one. */
  @Test
  void whereverAKillCutsTheJournalTheLogIsTakenOver() throws Exception {
    state.close();
    Files.delete(folder.resolve("journal"));
    state = DeviceState.open(folder, "d1", 100);
    take(1, 2);
    TakenEntry[] log = {
      mine(1, 1, Messages.APPEND, new long[] {0, 1}, 0, 1), mine(2, 2, Messages.APPEND, new long[] {2, 150}, 0, 1, 2, 150)
    };
    int named = (int) Files.size(folder.resolve("journal"));
    follow(log);
    join();
    state.close();
    byte[] all = Files.readAllBytes(folder.resolve("journal"));
    for (int length = named; length <= all.length; length++) {
      Files.write(folder.resolve("journal"), Arrays.copyOf(all, length));
      state = DeviceState.open(folder, "d1");
      assertEquals(length == all.length, state.joined());
      for (int i = (int) state.head(); i < log.length; i++) {
        follow(log[i]);
      }
      assertArrayEquals(new long[] {state.joined() ? 3 : 0}, state.pendingKeys());
      join();
      assertArrayEquals(new long[] {3}, state.pendingKeys());
      assertEquals(151, take(3));
      state.close();
    }
    state = DeviceState.open(folder, "d1");
  }

  @Test
  void anotherParentsLogTakesThePlaceOfTheOldOne() throws Exception {
    take(3, 4);
    take(5);
    take(6);
    acknowledge(1, 0, 1);
    acknowledge(2, 0, 1, 2);
    state.forget(new long[] {1});
    assertEquals(1, state.beginMove("https://other.example:1"));
    assertEquals(1, state.moving());
    byte[] known = Rows.embeddings(new long[] {0, 1}, new int[] {-1, 4}, new byte[] {3, 77, 4, 77}, 2).dump("d1");
    state.begin();
    state.rebase(Collections.singletonList(entry(1, Messages.APPEND, known, 2, 0, 1)), 1);
    state.commit();
    again();
    assertEquals(0, state.moving());
    assertEquals(1, state.fence());
    assertEquals("https://other.example:1", state.text("home"));
    assertArrayEquals(new long[] {0, 2, 3}, state.counters());
    assertEquals(3, state.label(0)); // the label that the parent above never got
    long append = state.pendingKey();
    Rows rows = Rows.loadEmbeddings(state.batchBytes(append), "d1", 9);
    assertArrayEquals(new long[] {0, 2, 3}, rows.counters); // the bare one, the lacking one, the waiting one
    acknowledge(2, 0, 1, 2, 3);
    assertArrayEquals(new long[] {1}, Rows.loadSamples(state.batchBytes(state.pendingKey()), "d1", 9).counters);
    acknowledge(3, 0, 2, 3);
    assertEquals(2, state.beginMove("https://third.example:1"));
  }

  /** The old parent had the row and not the order; it hands the row on when the device is gone. */
  @Test
  void anOrderToForgetThatWaitedOutlivesAMove() throws Exception {
    takeSecret();
    byte[] payload = state.batchBytes(0);
    acknowledge(1, 0, 1);
    state.forget(new long[] {0});
    state.beginMove("https://other.example:1");
    state.begin();
    state.rebase(Collections.<TakenEntry>emptyList(), 1); // the new parent has nothing yet
    state.commit();
    acknowledge(1, 1);
    assertEquals(-1, state.pendingKey());
    again();
    state.begin();
    state.follow(entry(2, Messages.APPEND, payload, 2, 0, 1));
    state.commit();
    assertFalse(journalHas("SECRETCODE"));
    for (int i = 0; i < 2; i++) {
      assertArrayEquals(new long[] {1}, state.counters());
      assertEquals(Messages.FORGET, state.batchKind(state.pendingKey()));
      assertArrayEquals(new long[] {0}, Rows.loadSamples(state.batchBytes(state.pendingKey()), "d1", 9).counters);
      state.begin();
      state.follow(entry(i + 3, Messages.APPEND, payload, 2, 0, 1)); // no second order beside the one that waits
      state.commit();
      assertEquals(1, state.pendingKeys().length);
      again();
    }
    acknowledge(5, 1);
    assertArrayEquals(new long[] {1}, state.shared());
    state.forget(new long[] {1}); // rewrites the journal, which must keep it
    again();
    acknowledge(6);
    state.begin();
    state.follow(entry(7, Messages.APPEND, payload, 2, 0, 1));
    state.commit();
    assertArrayEquals(new long[] {0}, Rows.loadSamples(state.batchBytes(state.pendingKey()), "d1", 9).counters);
    assertNull(state.code(0));
  }

  @Test
  void ownPayloadsAreFoundByTheirDigest() throws Exception {
    take(3, 4);
    byte[] payload = state.batchBytes(0);
    assertArrayEquals(payload, state.find(Digests.of(payload)));
    acknowledge(1, 0, 1);
    assertArrayEquals(payload, state.find(Digests.of(payload)));
    assertNull(state.find(new byte[32]));
  }

  @Test
  void knowledgeIsOfOneParentAndOnlyGrows() throws Exception {
    Knowledge second = new Knowledge(2, 1, new byte[32], 0, "f32", 1, 1, new byte[4]);
    state.begin();
    state.hear("edge-a", second);
    state.hear("edge-a", new Knowledge(1, 1, new byte[32], 0, "f32", 1, 1, new byte[4]));
    state.commit();
    state.tell("edge-a", new Knowledge(2, 2, new byte[32], 0, "f32", 1, 1, new byte[] {1, 2, 3, 4}));
    again();
    assertEquals(2, state.heard("edge-a").version);
    assertArrayEquals(new byte[] {1, 2, 3, 4}, state.told("edge-a").data);
    assertNull(state.heard("edge-b"));
  }

  @Test
  void aFullOutboxRefusesAndKeepsWhatItHas() throws Exception {
    take(3);
    OutboxFullException full =
        assertThrows(
            OutboxFullException.class,
            () -> state.take(Collections.singletonList(new float[1]), new int[] {0}, new byte[90], 90, 100));
    assertTrue(full.getMessage().contains("refused"), full.getMessage());
    assertArrayEquals(new long[] {0}, state.counters());
  }

  @Test
  void oneOwnerAndOneNodeAtATime() throws Exception {
    assertThrows(StorageException.class, () -> DeviceState.open(folder, "d1"));
    state.close();
    assertThrows(StorageException.class, () -> DeviceState.open(folder, "d2"));
    state = DeviceState.open(folder, "d1");
  }

  @Test
  void aFolderThatCouldNotBeOpenedIsFree() throws Exception {
    Path other = folder.resolve("other");
    assertThrows(NullPointerException.class, () -> DeviceState.open(other, null)); // for whatever reason
    DeviceState.open(other, "d1").close();
  }

  /** Another process, which says whether it could open the state. */
  public static final class Other {
    private Other() {}

    public static void main(String[] arguments) {
      try (DeviceState state = DeviceState.open(Paths.get(arguments[0]), "d1")) {
        System.out.println("open with " + state.counters().length);
      } catch (StorageException error) {
        System.out.println("refused");
      }
    }
  }

  private String other() throws Exception {
    Process process =
        new ProcessBuilder(
                Paths.get(System.getProperty("java.home"), "bin", "java").toString(), "-Xint", "-cp",
                System.getProperty("java.class.path"), Other.class.getName(), folder.toString())
            .redirectErrorStream(true)
            .start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    process.waitFor();
    return said.trim();
  }

  /** Closing a second channel of the lock file would free the first one's lock. */
  @Test
  void aSecondOpenInThisProcessDoesNotLetAnotherProcessIn() throws Exception {
    assertThrows(StorageException.class, () -> DeviceState.open(folder, "d1"));
    Path link = folder.resolveSibling(folder.getFileName() + "-link");
    Files.createSymbolicLink(link, folder);
    try {
      assertThrows(StorageException.class, () -> DeviceState.open(link, "d1"));
    } finally {
      Files.delete(link);
    }
    assertEquals("refused", other());
    state.close();
    assertEquals("open with 0", other());
    state = DeviceState.open(folder, "d1");
  }

  @Test
  void aWriteThatFailsIsAChangeThatWasNotMade() throws Exception {
    take(3);
    byte[] before = Files.readAllBytes(folder.resolve("journal"));
    JournalFaults.closeUnder(state);
    assertThrows(StorageException.class, () -> take(4));
    assertArrayEquals(new long[] {0}, state.counters());
    assertArrayEquals(before, Files.readAllBytes(folder.resolve("journal")));
    assertEquals(1, take(5)); // and it goes on
    again();
    assertEquals(5, state.label(1));
  }

  @Test
  void rewritesThatFailAreTriedEverMoreSeldom() throws Exception {
    Path full = Paths.get("/dev/full");
    assumeTrue(Files.exists(full));
    Path beside = folder.resolve("journal.new");
    take(1, 2);
    acknowledge(1, 0, 1);
    List<Integer> tried = new ArrayList<>();
    for (int change = 0; change < 20; change++) {
      if (!Files.exists(beside, LinkOption.NOFOLLOW_LINKS)) {
        Files.createSymbolicLink(beside, full);
      }
      if (change == 0) {
        state.forget(new long[] {0});
      } else {
        state.putNumber("n", change);
      }
      if (!Files.exists(beside, LinkOption.NOFOLLOW_LINKS)) {
        tried.add(change);
      }
    }
    assertEquals(Arrays.asList(0, 2, 6, 14), tried);
    assertEquals(19, state.number("n", 0));
  }

  @Test
  void whoForgetsHasTheRewriteTriedAtOnce() throws Exception {
    assumeTrue(Files.exists(Paths.get("/dev/full")));
    takeSecret();
    take(3);
    Path beside = folder.resolve("journal.new");
    for (int change = 0; change < 3; change++) { // after the second failure it waits three changes
      if (!Files.exists(beside, LinkOption.NOFOLLOW_LINKS)) {
        Files.createSymbolicLink(beside, Paths.get("/dev/full"));
      }
      if (change == 0) {
        state.forget(new long[] {1});
      } else {
        state.putNumber("n", change);
      }
    }
    Files.deleteIfExists(beside);
    assertTrue(journalHas("SECRETCODE"));
    state.forget(new long[] {0});
    assertFalse(journalHas("SECRETCODE"));
  }

  /** As a version wrote it that erased samples alone. */
  @Test
  void whatWaitsToBeForgottenLeavesTheBatchesOfAnOlderVersion() throws Exception {
    takeSecret();
    byte[] rows = state.batchBytes(0);
    state.close();
    Files.delete(folder.resolve("journal"));
    Journal journal = Journal.open(folder.resolve("journal"), new ArrayList<>());
    MsgpackWriter out = new MsgpackWriter();
    Operations.batch(out, 0, new Memory.Batch(Messages.APPEND, new long[] {0, 1}, rows));
    byte[] order = Rows.samples(new long[] {0}).dump("d1");
    Operations.batch(out, 1, new Memory.Batch(Messages.FORGET, new long[] {0}, order));
    journal.append(out.toBytes());
    journal.close();
    state = DeviceState.open(folder, "d1");
    assertArrayEquals(new long[] {1}, Rows.loadEmbeddings(state.batchBytes(0), "d1", 9).counters);
    assertFalse(journalHas("SECRETCODE"));
    acknowledge(1, 0, 1); // it was committed before
    assertArrayEquals(new long[] {0, 1}, state.shared());
  }

  @Test
  void moreRowsThanAnyParentTakesAreSeveralBatchesFromTheFirstMoment() throws Exception {
    int count = 65_537;
    state.take(Collections.nCopies(count, new float[1]), new int[count], new byte[count], 1, 1L << 30);
    assertArrayEquals(new long[] {0, 1}, state.pendingKeys());
    assertEquals(65_536, state.batchRows(0));
    assertArrayEquals(new long[] {65_536}, Rows.loadEmbeddings(state.batchBytes(1), "d1", 9).counters);
    state.beginMove("https://other.example:1");
    state.begin();
    state.rebase(Collections.<TakenEntry>emptyList(), 1); // the new parent lacks them all
    state.commit();
    assertEquals(2, state.pendingKeys().length);
  }

  @Test
  void aBatchOverALimitIsCutInOrderWithNewKeys() throws Exception {
    take(1);
    take(2, 3, 4, 5, 6);
    state.forget(new long[] {0, 2});
    state.split(2, 1 << 20);
    again();
    long[] keys = state.pendingKeys();
    assertEquals(4, keys.length);
    assertEquals(0, keys[0]); // short enough, and before
    assertTrue(keys[1] > 2); // keys are never used twice
    assertArrayEquals(new long[] {1, 3}, Rows.loadEmbeddings(state.batchBytes(keys[1]), "d1", 9).counters);
    assertArrayEquals(new long[] {4, 5}, Rows.loadEmbeddings(state.batchBytes(keys[2]), "d1", 9).counters);
    assertEquals(Messages.FORGET, state.batchKind(keys[3]));
    long waits = state.outboxBytes();
    state.split(2, 1 << 20); // again changes nothing
    assertArrayEquals(keys, state.pendingKeys());
    state.split(9, 1);
    assertEquals(7, state.pendingKeys().length); // down to a row each, not below
    assertTrue(state.outboxBytes() > waits);
  }

  /** Whatever beginning of the journal a power cut leaves, it is the state after some of the changes, none of them half. */
  @Test
  void everyBeginningOfTheJournalIsAStateThatWas() throws Exception {
    List<String> states = new ArrayList<>();
    states.add("[][]0/-1");
    states.add(told()); // the node's name
    take(3, 4);
    states.add(told());
    acknowledge(1, 0, 1);
    states.add(told());
    state.forget(new long[] {0}); // rewrites the journal
    take(6);
    state.close();
    byte[] all = Files.readAllBytes(folder.resolve("journal"));
    int different = 0;
    String last = null;
    for (int length = 8; length <= all.length; length++) {
      Files.write(folder.resolve("journal"), Arrays.copyOf(all, length));
      state = DeviceState.open(folder, "d1");
      String now = told();
      if (!now.equals(last)) {
        different++;
        last = now;
      }
      state.close();
    }
    // a rewritten journal is renamed whole, so of its records only the last one can be cut
    assertEquals(3, different);
    assertNotEquals(states.get(2), last);
    state = DeviceState.open(folder, "d1");
    assertArrayEquals(new long[] {1, 2}, state.counters());
  }

  private String told() {
    return Arrays.toString(state.counters()) + Arrays.toString(state.shared()) + state.head() + "/" + state.pendingKey();
  }

  @Test
  void aLongLifeDoesNotMakeALongJournal() throws Exception {
    for (int i = 0; i < 40; i++) {
      byte[] data = new byte[200_000];
      state.tell("edge-a", new Knowledge(i, -1, new byte[32], 0, "f32", 50_000, 1, data));
    }
    assertTrue(Files.size(folder.resolve("journal")) < 3_000_000, Files.size(folder.resolve("journal")) + " bytes");
    again();
    assertEquals(39, state.told("edge-a").version);
  }
}
