package fedagg.bridge.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.TestIdentity;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.state.JournalFaults;
import fedagg.bridge.wire.ChildState.StorageException;
import fedagg.bridge.wire.Event;
import fedagg.bridge.wire.SmallParent;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.Random;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where it turns to while nobody answers; what is said with a parent is FleetTest's. */
class WireClientTest {
  private static final String HOME = "https://127.0.0.1:1"; // nobody listens on these ports
  private static final String SECOND = "https://127.0.0.1:2";
  private static final String THIRD = "https://127.0.0.1:3";
  private static final double LOST_AFTER = 600;

  @TempDir Path home;
  private DeviceState state;
  private WireClient client;
  private double now;

  @BeforeEach
  void open() throws Exception {
    Identity identity = TestIdentity.open(home);
    state = DeviceState.open(home.resolve("state"), identity.facts().node);
    client =
        new WireClient(
            state, identity, HOME, Arrays.asList(SECOND, THIRD), LOST_AFTER, "test", "all", 25, new Random(1));
  }

  @AfterEach
  void close() throws Exception {
    state.close();
  }

  private void runFor(double seconds) throws Exception {
    for (double until = now + seconds; now < until; now = Math.min(until, Math.max(client.end().wake(), now + 1))) {
      client.turn(now);
    }
  }

  @Test
  void aParentThatIsSilentForTooLongIsLeftForTheNextOne() throws Exception {
    runFor(LOST_AFTER - 70);
    assertEquals(HOME, client.url());
    runFor(200);
    assertEquals(SECOND, client.url());
    assertEquals(1, state.moving());
    runFor(LOST_AFTER + 130);
    assertEquals(THIRD, client.url());
    assertEquals(2, state.moving()); // each try has a number of its own
    runFor(LOST_AFTER + 130);
    assertEquals(HOME, client.url()); // and so on, around
  }

  @Test
  void aRequestThatThisDeviceEndsIsNoFailure() throws Exception {
    client.interrupt();
    client.turn(0);
    assertEquals(0, client.end().wake()); // what is due goes at once
    client.turn(0);
    assertTrue(client.end().wake() > 0); // that one nobody answered
  }

  /** The parent says it once: what follows from it is written when the disk has room. */
  @Test
  void whatAnAnswerBringsIsHeededWhenItCouldNotBeWrittenAtOnce() throws Exception {
    Identity identity = TestIdentity.open(home);
    SmallParent parent = new SmallParent("edge-a", identity.facts().node);
    state.begin();
    state.join(); // or it would be the answer itself that is not kept
    state.commit();
    AtomicBoolean full = new AtomicBoolean(true);
    client =
        FakeLink.client(
            state, identity, HOME,
            request -> {
              if (full.getAndSet(false)) {
                JournalFaults.closeUnder(state);
              }
              return parent.any(request);
            });
    assertThrows(StorageException.class, () -> client.turn(0));
    assertEquals(Event.Kind.WELCOMED, client.turn(0).get(0).kind);
    assertEquals(HOME, state.text("home"));
    assertEquals(Collections.emptyList(), client.turn(0)); // once
  }

  @Test
  void aMoveOutlivesARestart() throws Exception {
    client.move(SECOND);
    state.close();
    open();
    assertEquals(SECOND, client.url());
    assertEquals(1, state.moving());
  }

  @Test
  void goingBackToTheParentThatItHasIsNoMove() throws Exception {
    state.putText("home", HOME);
    client.move(SECOND);
    client.move(HOME);
    assertEquals(HOME, client.url());
    assertEquals(0, state.moving());
  }
}
