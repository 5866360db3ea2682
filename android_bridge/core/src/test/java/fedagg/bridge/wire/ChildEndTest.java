package fedagg.bridge.wire;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.state.DeviceState;
import fedagg.bridge.wire.Messages.Notice;
import fedagg.bridge.wire.Messages.Problem;
import java.lang.reflect.Proxy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ChildEndTest {
  @TempDir Path folder;
  private DeviceState state;
  private ChildEnd end;
  private SmallParent parent;
  private double now;
  private final List<Event> events = new ArrayList<>();

  @BeforeEach
  void open() throws Exception {
    state = DeviceState.open(folder, "d1", 0);
    parent = new SmallParent("edge-a", "d1");
    end = end(1);
  }

  private ChildEnd end(long seed) {
    return new ChildEnd(state, "d1", "f", "test", "all", 25, new Random(seed));
  }

  @AfterEach
  void close() throws Exception {
    state.close();
  }

  private void take(int count, int codeBytes) throws Exception {
    List<float[]> xs = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      xs.add(new float[] {i});
    }
    byte[] codes = new byte[count * codeBytes];
    new Random(count).nextBytes(codes);
    state.take(xs, new int[count], codes, codeBytes, 1 << 20);
  }

  /** One request and its answer; the request, or null if none was due. */
  private Request step() throws Exception {
    Request request = end.next(now);
    if (request != null) {
      events.addAll(end.receive(request, parent.any(request), now));
    }
    return request;
  }

  private List<String> paths(int most) throws Exception {
    List<String> found = new ArrayList<>();
    for (int i = 0; i < most; i++) {
      Request request = step();
      if (request == null) {
        break;
      }
      found.add(request.method + " " + request.path.replaceAll("[0-9a-f]{64}", "X"));
    }
    return found;
  }

  @Test
  void helloThenTheOutboxThenExchange() throws Exception {
    take(1, 2);
    take(2, 2);
    List<String> wanted = new ArrayList<>();
    wanted.add("POST /v1/hello");
    wanted.add("POST /v1/append");
    wanted.add("POST /v1/append");
    wanted.add("POST /v1/exchange");
    assertEquals(wanted, paths(4));
    assertEquals(2, state.head());
    assertEquals(2, parent.appended);
    assertEquals(Collections.emptyList(), parent.refusals);
    assertEquals("edge-a", end.parent());
  }

  @Test
  void aLongBatchGoesInChunksAndOnlyThoseThatLack() throws Exception {
    take(3, 200); // 600 bytes of codes in chunks of 256
    assertEquals("[POST /v1/hello, POST /v1/missing, PUT /v1/chunks/X]", paths(3).toString());
    Request second = end.next(now);
    end.failed(second, now); // the connection breaks; the first chunk is there
    now = end.wake() + 1;
    assertEquals(
        "[POST /v1/hello, PUT /v1/chunks/X, PUT /v1/chunks/X, POST /v1/append]", paths(4).toString());
    assertEquals(1, state.head());
    assertArrayEquals(state.find(parent.log.get(0).payload.digest), parent.payloads.get(0));
  }

  @Test
  void anAgentThatStartsAgainAsksWhichChunksLack() throws Exception {
    take(3, 200);
    paths(3);
    end = end(2);
    assertEquals(
        "[POST /v1/hello, POST /v1/missing, PUT /v1/chunks/X, PUT /v1/chunks/X, POST /v1/append]",
        paths(5).toString());
  }

  @Test
  void chunksThatWereSweptAreAskedForAgain() throws Exception {
    take(3, 200);
    paths(5);
    parent.staged.clear();
    assertEquals("[POST /v1/append]", paths(1).toString()); // 409 missing
    now = end.wake() + 1;
    assertEquals("POST /v1/missing", paths(6).get(0));
    assertEquals(1, state.head());
  }

  @Test
  void anAppendWhoseAnswerWasLostIsAnsweredWithTheSameEntry() throws Exception {
    take(1, 2);
    step();
    Request append = end.next(now);
    parent.any(append);
    end.failed(append, now);
    assertEquals(0, state.head());
    now = end.wake() + 1;
    paths(2);
    assertEquals(1, state.head());
    assertEquals(1, parent.appended);
  }

  @Test
  void anAnswerToARequestThatWasGivenUpChangesNothing() throws Exception {
    take(1, 2);
    step();
    Request append = end.next(now);
    Response late = parent.any(append);
    end.failed(append, now);
    assertTrue(end.receive(append, late, now).isEmpty());
    assertEquals(0, state.head());
  }

  @Test
  void whatTheParentWroteIsFollowedBeforeOwnBatches() throws Exception {
    take(2, 2);
    paths(2);
    parent.write(Messages.FORGET, 0);
    take(1, 2);
    assertEquals("[POST /v1/append, POST /v1/append]", paths(2).toString()); // Behind, then again
    assertEquals(3, state.head());
    assertArrayEquals(new long[] {1, 2}, state.counters());
    assertArrayEquals(parent.digest(), state.headDigest());
  }

  @Test
  void aLongEntryAndLongKnowledgeComeByChunks() throws Exception {
    long[] many = new long[100];
    for (int i = 0; i < many.length; i++) {
      many[i] = i;
    }
    parent.write(Messages.APPEND, many);
    parent.publish(4, 3);
    List<String> found = paths(20);
    assertTrue(found.contains("GET /v1/entries/1/0") && found.contains("GET /v1/knowledge/4/4"), found.toString());
    assertEquals(1, state.head());
    assertEquals(4, state.heard("edge-a").version);
    assertEquals(1200, state.heard("edge-a").data.length);
  }

  @Test
  void knowledgeIsGivenOnceAndOwedAnswersHoldNoPoll() throws Exception {
    take(1, 2);
    paths(2);
    parent.publish(0, 3);
    step();
    assertEquals(0, state.heard("edge-a").version);
    assertNull(end.next(now)); // it owes an answer: that comes first
    now = end.wake();
    Request look = end.next(now); // and if that takes long, a look at the news, no poll
    assertEquals(0, Messages.Exchange.decode(look.body).wait);
    end.receive(look, parent.any(look), now);
    assertNull(end.next(now));
    assertTrue(end.wake() > now);
    state.tell("edge-a", new Knowledge(0, 0, state.headDigest(), 0, "f32", 1, 3, new byte[12]));
    step();
    assertEquals(0, parent.taken.version);
    Request poll = end.next(now);
    assertEquals(25, Messages.Exchange.decode(poll.body).wait);
    assertNull(Messages.Exchange.decode(poll.body).knowledge);
  }

  @Test
  void aRefusedVersionIsNotSentAgain() throws Exception {
    take(1, 2);
    paths(2);
    state.tell("edge-a", new Knowledge(0, -1, state.headDigest(), 0, "f32", 1, 3, new byte[12]));
    Request request = end.next(now);
    Response unfit = new Response(422, new Problem("unfit", "no", -1).encode(), -1);
    assertEquals(Event.Kind.REFUSED, end.receive(request, unfit, now).get(0).kind);
    assertNull(Messages.Exchange.decode(end.next(now).body).knowledge);
  }

  @Test
  void waitsAreThoseThatWereSaidPlusARandomPart() throws Exception {
    step();
    Request request = end.next(now);
    end.receive(request, new Response(503, new Problem("draining", "", 7).encode(), 7), now);
    assertTrue(end.wake() >= 7 && end.wake() <= 10.5, "wake " + end.wake());
    assertNull(end.next(now));
    now = end.wake();
    request = end.next(now);
    end.receive(request, new Response(429, new byte[] {1, 2}, 3), now); // a proxy's page with the header alone
    assertTrue(end.wake() - now >= 3 && end.wake() - now <= 4.5, "wake " + (end.wake() - now));
  }

  @Test
  void theLongerTheWaitThatWasSaidTheMoreChildrenAreSpread() throws Exception {
    double most = 0;
    for (int i = 0; i < 40; i++) {
      Request request = end.next(now);
      double began = now;
      end.receive(request, new Response(503, new Problem("draining", "", 60).encode(), 60), now);
      assertTrue(end.wake() - began >= 60 && end.wake() - began <= 120, "wake " + (end.wake() - began));
      most = Math.max(most, end.wake() - began);
      now = end.wake();
    }
    assertTrue(most > 75, "longest " + most);
  }

  @Test
  void failuresDoubleTheWindowUpToAMinute() throws Exception {
    double longest = 0;
    for (int i = 0; i < 12; i++) {
      Request request = end.next(now);
      end.failed(request, now);
      double window = Math.min(60, 0.5 * Math.pow(2, i));
      assertTrue(end.wake() - now <= window, "window " + i);
      longest = Math.max(longest, end.wake() - now);
      now = end.wake();
    }
    assertTrue(longest > 10);
  }

  @Test
  void refusalsAreToldAndTriedAgainMuchLater() throws Exception {
    Request request = end.next(now);
    List<Event> told =
        end.receive(request, new Response(426, new Problem("versions", "upgrade the child", -1).encode(), -1), now);
    assertEquals("versions", told.get(0).problem.code);
    assertEquals(ChildEnd.Step.REFUSED, end.step());
    assertTrue(end.wake() >= 300);
    now = end.wake();
    assertEquals("/v1/hello", end.next(now).path);
  }

  /** The same request would be answered the same. */
  @Test
  void whatTheParentCannotReadIsARefusal() throws Exception {
    take(1, 2);
    step();
    Request append = end.next(now);
    List<Event> told =
        end.receive(append, new Response(400, new Problem("malformed", "append: got", -1).encode(), -1), now);
    assertEquals(400, told.get(0).number);
    assertEquals(ChildEnd.Step.REFUSED, end.step());
    assertTrue(end.wake() >= 30 && end.wake() <= 90, "wake " + end.wake());
  }

  @Test
  void anAnswerThatCannotBeReadCountsAsNone() throws Exception {
    Request request = end.next(now);
    List<Event> told = end.receive(request, new Response(200, new byte[] {(byte) 0xc1}, -1), now);
    assertEquals(0, told.get(0).number);
    assertEquals("malformed", told.get(0).problem.code);
    now = end.wake();
    assertEquals("/v1/hello", end.next(now).path);
    for (int status : new int[] {200, 204, 302}) {
      Request again = end.next(now);
      end.receive(again, new Response(status, new byte[0], -1), now);
      now = end.wake();
    }
    assertEquals(0, state.head());
  }

  @Test
  void noticesComeAgainUntilTheyAreNoted() throws Exception {
    paths(1);
    parent.notices.add(new Notice(1, "renew", new byte[] {(byte) 0xc0}));
    step();
    step();
    long told = events.stream().filter(e -> e.kind == Event.Kind.NOTICE).count();
    assertEquals(2, told);
    state.putNumber("noticed", 1);
    step();
    assertEquals(2, events.stream().filter(e -> e.kind == Event.Kind.NOTICE).count());
  }

  /** A parent that has finished says a minute to all its children: they come back spread over half of one. */
  @Test
  void aWaitThatIsSaidIsKeptAndSpread() throws Exception {
    double least = Double.MAX_VALUE;
    double most = 0;
    Random seeds = new Random(5);
    for (int i = 0; i < 40; i++) {
      end = end(seeds.nextLong());
      paths(1);
      Request poll = end.next(now);
      Messages.Exchanged said =
          new Messages.Exchanged(
              -1, 0, Collections.<Messages.Entry>emptyList(), null, Collections.<Notice>emptyList(), true, 60);
      end.receive(poll, new Response(200, said.encode(), 60), now);
      least = Math.min(least, end.wake() - now);
      most = Math.max(most, end.wake() - now);
    }
    assertTrue(least >= 60 && most <= 90 && most - least > 16, least + " to " + most);
  }

  @Test
  void afterTheEndWhatADeviceHasToSayGoesAtOnce() throws Exception {
    take(1, 2);
    paths(2);
    parent.finished = true;
    step();
    double until = end.wake();
    assertTrue(until > now && end.next(now) == null);
    take(2, 2);
    assertEquals("[POST /v1/append]", paths(3).toString()); // and no question for news yet
    assertEquals(2, state.head());
    assertEquals(until, end.wake());
  }

  @Test
  void theEndIsToldOnce() throws Exception {
    paths(1);
    parent.finished = true;
    step();
    now = end.wake() + 1;
    step();
    assertEquals(1, events.stream().filter(e -> e.kind == Event.Kind.FINISHED).count());
  }

  @Test
  void aMoveAsksTheNewParentFirstAndTakesItsLog() throws Exception {
    take(2, 2);
    take(1, 2);
    paths(4);
    SmallParent other = new SmallParent("edge-b", "d1");
    for (Messages.Entry entry : parent.log.subList(0, 1)) { // as far as the root had given them
      other.log.add(new Messages.Entry(1, entry.kind, -1, entry.rows, entry.digest, entry.payload));
      other.payloads.add(parent.payloads.get(0));
      other.set.add(0L);
      other.set.add(1L);
    }
    state.beginMove("https://b.example:1");
    end.restart(0);
    parent = other;
    assertEquals(
        "[POST /v1/adopt, POST /v1/hello, POST /v1/exchange, POST /v1/append, POST /v1/exchange]",
        paths(5).toString());
    assertEquals(0, state.moving());
    assertEquals(1, state.fence());
    assertEquals(1, other.fence);
    assertArrayEquals(new long[] {0, 1, 2}, state.shared());
    assertArrayEquals(other.digest(), state.headDigest());
    assertTrue(events.stream().anyMatch(e -> e.kind == Event.Kind.MOVED));
  }

  /** Its limits bound what it takes; it may have written a longer entry itself, for what the root gave it. */
  @Test
  void entriesAndKnowledgeOverTheParentsOwnLimitsAreTaken() throws Exception {
    parent.limits = SmallParent.tight();
    parent.write(Messages.APPEND, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
    paths(6);
    assertEquals(10, state.shared().length);
    parent.publish(1, 40);
    now += 100;
    paths(20);
    assertNotNull(state.heard("edge-a"));
  }

  @Test
  void aNodeMovesToAParentOfLimitsThatItsLogIsOver() throws Exception {
    take(2, 2);
    paths(4);
    SmallParent other = new SmallParent("edge-b", "d1");
    other.limits = SmallParent.tight();
    other.write(Messages.APPEND, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29);
    other.write(Messages.FORGET, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29);
    state.beginMove("https://b.example:1");
    end.restart(0);
    parent = other;
    paths(12);
    assertEquals(0, state.moving());
    assertArrayEquals(new long[] {0, 1}, state.shared());
  }

  @Test
  void aNodeThatLostItsStateTakesItsLogAndItsFenceOver() throws Exception {
    parent.write(Messages.APPEND, 3, 4);
    parent.fence = 5;
    paths(2);
    assertEquals(5, state.fence());
    assertArrayEquals(new long[] {3, 4}, state.counters());
    take(1, 2);
    assertArrayEquals(new long[] {3, 4, 5}, state.counters());
    paths(1);
    assertArrayEquals(new long[] {3, 4, 5}, state.shared());
  }

  /** The node has nothing but its certificate; {@code first}: where its numbers begin this time. */
  private void lose(long first) throws Exception {
    state.close();
    Files.delete(folder.resolve("journal"));
    state = DeviceState.open(folder, "d1", first);
    end = end(2);
    events.clear();
  }

  private void startAgain(long seed) throws Exception {
    state.close();
    state = DeviceState.open(folder, "d1");
    end = end(seed);
  }

  private List<Long> ownKeys() {
    List<Long> keys = new ArrayList<>();
    for (Messages.Entry entry : parent.log) {
      if (entry.key >= 0) {
        keys.add(entry.key);
      }
    }
    return keys;
  }

  private List<Event.Kind> told() {
    List<Event.Kind> kinds = new ArrayList<>();
    for (Event event : events) {
      kinds.add(event.kind);
    }
    return kinds;
  }

  private void assertSame() {
    assertEquals(Collections.emptyList(), parent.refusals);
    assertEquals(-1, state.pendingKey());
    assertEquals(parent.log.size(), state.head());
    assertArrayEquals(parent.digest(), state.headDigest());
    assertArrayEquals(state.counters(), state.shared());
  }

  @ParameterizedTest
  @CsvSource({"true, true", "true, false", "false, true", "false, false"})
  void aNodeThatLostItsStateAddsToItsLog(boolean logFirst, boolean ready) throws Exception {
    take(3, 2);
    runFor(2);
    take(40, 2); // comes in chunks
    runFor(2);
    lose(logFirst ? 0 : 500);
    end.setReady(ready);
    if (logFirst) {
      runFor(2);
    }
    take(2, 2);
    runFor(2);
    assertSame();
    assertEquals(45, parent.set.size());
    assertTrue(parent.set.contains(logFirst ? 43L : 500L));
    assertEquals(Arrays.asList(0L, 1L, 2L), ownKeys());
    // its node begins when it is welcomed: only then does it know which keys it gave
    assertEquals(
        Arrays.asList(Event.Kind.FOLLOWED, Event.Kind.FOLLOWED, Event.Kind.WELCOMED, Event.Kind.COMMITTED), told());
  }

  @ParameterizedTest
  @ValueSource(strings = {"no request", "no answer", "twice", "start again"})
  void aNodeThatLostItsStateIsKilledOrCutOffAtAnyStep(String fault) throws Exception {
    for (int step = 0; step < 16; step++) {
      close();
      folder = Files.createDirectory(folder.resolveSibling(folder.getFileName() + "-" + step));
      open();
      for (int count : new int[] {3, 40, 4}) {
        take(count, 2);
        runFor(2);
      }
      lose(500);
      take(2, 2);
      take(50, 2);
      for (int i = 0; i < step; i++) {
        step();
      }
      Request request = end.next(now);
      if (!fault.equals("no request")) {
        Response answer = parent.any(request);
        if (fault.equals("twice")) {
          events.addAll(end.receive(request, parent.any(request), now));
          assertEquals(Collections.emptyList(), end.receive(request, answer, now));
        }
      }
      if (fault.equals("start again")) {
        startAgain(3);
      } else if (!fault.equals("twice")) {
        end.failed(request, now);
      }
      if (!state.joined()) {
        assertEquals(Arrays.asList(0L, 1L, 2L), ownKeys()); // nothing of its own goes before
        assertFalse(told().contains(Event.Kind.WELCOMED));
      }
      runFor(4);
      assertTrue(state.joined());
      assertSame();
      assertEquals(47 + 52, parent.set.size());
      assertEquals(Arrays.asList(0L, 1L, 2L, 3L, 4L), ownKeys());
    }
  }

  @Test
  void anEntryUnderTheKeyOfABatchThatWasNeverSentIsNotTakenForIt() throws Exception {
    take(3, 2);
    runFor(2);
    lose(500);
    take(3, 2); // the same again: its source may give the first ones first
    runFor(2);
    assertSame();
    assertArrayEquals(new long[] {0, 1, 2, 500, 501, 502}, state.shared());
    assertEquals(Arrays.asList(0L, 1L), ownKeys());
  }

  @Test
  void aSampleThatComesBeforeTheWholeLogGetsNoNumberOfIt() throws Exception {
    long[] first = new long[20];
    long[] second = new long[20];
    for (int i = 0; i < 20; i++) {
      first[i] = 100 + i;
      second[i] = 120 + i;
    }
    parent.write(Messages.APPEND, first);
    parent.write(Messages.APPEND, second);
    lose(50);
    for (int i = 0; i < 20 && state.head() < 1; i++) {
      step();
    }
    assertEquals(1, state.head());
    assertFalse(state.joined());
    take(1, 2); // 120 would be above all that is here
    runFor(2);
    take(1, 2);
    runFor(2);
    assertSame();
    assertTrue(parent.set.contains(50L) && parent.set.contains(140L), parent.set.toString());
  }

  @Test
  void whatWasForgottenBeforeTheStateWasLostStaysSo() throws Exception {
    take(3, 2);
    runFor(2);
    state.forget(new long[] {1, 2});
    runFor(2);
    lose(0);
    runFor(2);
    assertArrayEquals(new long[] {0}, state.counters());
    take(1, 2);
    runFor(2);
    assertSame();
    assertArrayEquals(new long[] {0, 3}, state.shared());
    assertEquals(Arrays.asList(0L, 1L, 2L), ownKeys());
  }

  @Test
  void aParentThatTakesBackWhatItSaidOfItsLogIsAskedAnew() throws Exception {
    take(3, 2);
    runFor(2);
    lose(500);
    step();
    Request request = end.next(now);
    Messages.Exchanged empty =
        new Messages.Exchanged(
            -1, 0, Collections.<Messages.Entry>emptyList(), null, Collections.<Notice>emptyList(), false, 0);
    List<Event> told = end.receive(request, new Response(200, empty.encode(), -1), now);
    assertEquals("malformed", told.get(0).problem.code);
    assertEquals(ChildEnd.Step.HELLO, end.step());
    runFor(4);
    assertTrue(state.joined());
    assertSame();
  }

  @Test
  void aNodeThatIsNewBeginsAtOnceAndSendsAgainWhatHadNoAnswer() throws Exception {
    take(3, 2);
    step();
    assertTrue(state.joined());
    parent.any(end.next(now));
    startAgain(2);
    runFor(2);
    assertSame();
    assertEquals(Collections.singletonList(0L), ownKeys());
    assertFalse(told().contains(Event.Kind.FOLLOWED));
  }

  @Test
  void aNodeThatLostItsStateAndItsParentKeepsItsRowsAtTheNextOne() throws Exception {
    take(3, 2);
    runFor(2);
    lose(500);
    take(2, 2);
    state.beginMove("https://b.example:1");
    SmallParent other = new SmallParent("edge-b", "d1");
    other.write(Messages.APPEND, 0, 1, 2);
    parent = other;
    runFor(4);
    assertTrue(state.joined());
    assertSame();
    assertArrayEquals(new long[] {0, 1, 2, 500, 501}, state.shared());
  }

  /** Requests and answers are dropped, doubled and late, agents start again: the logs are the same, each batch once. */
  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
  void whateverGetsLostEachBatchIsThereOnce(long seed) throws Exception {
    Random chance = new Random(seed);
    int batches = 0;
    long told = -1;
    for (int turn = 0; turn < 400; turn++) {
      if (batches < 12 && chance.nextInt(10) == 0) {
        take(1 + chance.nextInt(3), chance.nextBoolean() ? 2 : 300);
        batches++;
      }
      if (chance.nextInt(40) == 0 && state.head() > 0) {
        parent.publish(parent.own == null ? 0 : parent.own.version + 1, 3);
      }
      if (chance.nextInt(60) == 0) {
        end = end(chance.nextLong()); // a restart
      }
      Knowledge heard = end.parent() == null ? null : state.heard("edge-a");
      if (heard != null && heard.version > told && state.shared().length > 0) {
        told = heard.version;
        int rows = state.shared().length;
        state.tell("edge-a", new Knowledge(told, told, state.headDigest(), 0, "f32", rows, 3, new byte[12 * rows]));
      }
      now = Math.max(now, end.wake());
      Request request = end.next(now);
      if (request == null) {
        continue;
      }
      int fate = chance.nextInt(5);
      if (fate == 0) {
        end.failed(request, now); // it never arrived
      } else if (fate == 1) {
        parent.any(request); // its answer got lost
        end.failed(request, now);
      } else {
        if (fate == 2) {
          parent.any(request); // it arrived twice
        }
        end.receive(request, parent.any(request), now);
      }
    }
    for (int turn = 0; turn < 200 && (state.pendingKey() >= 0 || state.head() < parent.log.size()); turn++) {
      now = Math.max(now, end.wake());
      step();
    }
    assertEquals(batches, parent.appended);
    assertEquals(-1, state.pendingKey());
    assertEquals(parent.log.size(), state.head());
    assertArrayEquals(parent.digest(), state.headDigest());
    assertEquals(Collections.emptyList(), parent.refusals, "what a child of this protocol never asks");
    if (told >= 0 && parent.taken != null) {
      assertNotNull(parent.takenData);
      assertTrue(parent.taken.version <= told);
    }
  }

  private void runFor(double seconds) throws Exception {
    for (double until = now + seconds; now < until; ) {
      if (step() == null) {
        now = Math.min(until, Math.max(end.wake(), now + 0.001));
      } else {
        now = Math.max(now + 0.01, end.wake());
      }
    }
  }

  @Test
  void aBatchOverTheParentsLimitsGoesInParts() throws Exception {
    parent.limits = SmallParent.limits(2, 60_000, 100);
    take(5, 2);
    take(1, 2);
    state.forget(new long[] {1, 3, 4});
    runFor(1);
    assertEquals(Collections.emptyList(), parent.refusals);
    assertEquals(4, parent.appended); // two rows left, one, and what forgets in two
    assertArrayEquals(new long[] {0, 2, 5}, state.shared());
    assertArrayEquals(parent.digest(), state.headDigest());
    assertEquals(Collections.emptyList(), end.aside());
  }

  @Test
  void limitsThatShrinkCutWhatWaitsAlready() throws Exception {
    take(8, 20);
    step(); // hello, by the wide limits
    Request append = end.next(now);
    parent.any(append); // it is committed whole; its answer gets lost, and then the parent takes less
    end.failed(append, now);
    parent.limits = SmallParent.limits(1000, 100, 100);
    take(8, 20);
    now = end.wake();
    runFor(5);
    assertEquals(Collections.emptyList(), parent.refusals);
    assertEquals(16, parent.set.size());
    assertArrayEquals(parent.digest(), state.headDigest());
    assertEquals(-1, state.pendingKey());
  }

  @Test
  void aRowThatIsTooLongIsSetAsideUntilTheParentTakesMore() throws Exception {
    parent.limits = SmallParent.limits(1000, 100, 100);
    take(2, 200);
    take(1, 2);
    runFor(1);
    assertEquals(2, end.aside().size()); // cut, as far as it goes
    assertEquals(Collections.emptyList(), parent.refusals); // known to be over, so never asked for
    assertArrayEquals(new long[] {2}, state.shared());
    state.forget(new long[] {0});
    runFor(30);
    assertEquals(1, end.aside().size());
    assertArrayEquals(new long[] {2}, state.shared());
    parent.limits = SmallParent.LIMITS;
    runFor(120); // it says hello again
    assertEquals(Collections.emptyList(), end.aside());
    assertArrayEquals(new long[] {1, 2}, state.shared());
    assertArrayEquals(parent.digest(), state.headDigest());
  }

  @Test
  void aDeviceWhoseFirstBatchIsSetAsideAsksAgainWithoutALogToExchangeOn() throws Exception {
    end.setReady(false);
    parent.limits = SmallParent.limits(1000, 100, 100);
    take(1, 200);
    runFor(1);
    parent.limits = SmallParent.LIMITS;
    runFor(120);
    assertArrayEquals(new long[] {0}, state.shared());
  }

  @Test
  void whatAFullParentRefusesIsNotInTheWayOfWhatMakesRoom() throws Exception {
    parent.limits = SmallParent.limits(1000, 60_000, 2);
    take(2, 2);
    runFor(1);
    take(1, 2);
    take(1, 2);
    state.forget(new long[] {0});
    runFor(60);
    assertArrayEquals(new long[] {1}, state.shared()); // all that behind them went
    assertEquals(2, end.aside().size());
    assertEquals(2, parent.refusals.size(), parent.refusals.toString()); // each once
    Event told = events.stream().filter(e -> e.kind == Event.Kind.REFUSED).findFirst().get();
    assertEquals(413, told.number);
    assertEquals(ChildEnd.Step.EXCHANGE, end.step());
    runFor(1000); // after the next Welcome they are asked for again
    assertArrayEquals(new long[] {1, 2}, state.shared());
    assertEquals(1, end.aside().size());
  }

  @Test
  void whatTheParentFindsUnfitIsAskedForAgainAfterItsNextWelcome() throws Exception {
    parent.likesLabels = false;
    take(1, 2);
    runFor(60);
    assertEquals(Collections.singletonList("/v1/append unfit"), parent.refusals);
    assertEquals(1, end.aside().size());
    parent.likesLabels = true;
    end.greet();
    runFor(60);
    assertArrayEquals(new long[] {0}, state.shared());
  }

  /** Each sample that is added ends a poll: what was refused must not go out with each of them. */
  @Test
  void aPollThatThisNodeEndsHasNothingRefusedAskedForAgain() throws Exception {
    parent.limits = SmallParent.limits(1000, 60_000, 2);
    take(2, 2);
    runFor(1);
    take(1, 2);
    assertEquals("[POST /v1/append, POST /v1/exchange]", paths(2).toString());
    assertEquals(1, parent.refusals.size());
    for (int i = 0; i < 3; i++) {
      Request poll = end.next(now);
      assertEquals("/v1/exchange", poll.path);
      end.ended(poll);
      assertTrue(end.receive(poll, parent.any(poll), now).isEmpty()); // too late
      state.forget(new long[] {i == 0 ? 0 : 99});
      assertEquals(i == 0 ? "[POST /v1/append, POST /v1/exchange]" : "[POST /v1/exchange]", paths(i == 0 ? 2 : 1).toString());
    }
    assertEquals(1, parent.refusals.size(), parent.refusals.toString());
    assertEquals(1, end.aside().size());
  }

  /** Rows are erased by another thread whenever it can be: what is sent is of one moment. */
  @Test
  void anAppendIsOfOneMoment() throws Exception {
    take(2, 2);
    long[] next = {0};
    ChildState restless =
        (ChildState)
            Proxy.newProxyInstance(
                ChildState.class.getClassLoader(), new Class<?>[] {ChildState.class},
                (proxy, method, arguments) -> {
                  Object found = method.invoke(state, arguments);
                  if (method.getName().startsWith("batch")) {
                    state.forget(new long[] {next[0]++});
                  }
                  return found;
                });
    end = new ChildEnd(restless, "d1", "f", "test", "all", 25, new Random(1));
    step();
    Messages.Append append = Messages.Append.decode(end.next(now).body);
    assertEquals(Rows.loadEmbeddings(append.payload.inline, "d1", 9).counters.length, append.rows);
    assertTrue(next[0] > 1 && append.rows < 2, "it was not restless");
  }

  @Test
  void aRefusalThatPassesIsWaitedFor() throws Exception {
    take(1, 2);
    step();
    Request append = end.next(now);
    end.receive(append, new Response(413, new Problem("too_large", "later", 7).encode(), 7), now);
    assertTrue(end.wake() >= now + 7);
    assertEquals(Collections.emptyList(), end.aside());
    now = end.wake();
    assertEquals("[POST /v1/append]", paths(1).toString());
    assertEquals(1, state.head());
  }

  @Test
  void aDeviceWithoutSamplesIsNotReadyToExchange() throws Exception {
    end.setReady(false);
    step();
    assertNull(end.next(now));
    take(1, 2); // there is something to send: no wait that was said stands in its way
    assertEquals("/v1/append", end.next(now).path);
    assertEquals(Collections.emptyList(), parent.notices);
  }
}
