package fedagg.bridge.agent;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.client.FakeLink;
import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.TestIdentity;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.state.JournalFaults;
import fedagg.bridge.wire.ChildState.StorageException;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import fedagg.bridge.wire.SmallParent;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** An agent beside a parent in memory, on a disk that takes nothing from the first answer until the first failure. */
class DeviceAgentTest {
  private static final String URL = "https://127.0.0.1:1";
  private static final int CLASSES = 3; // SmallParent's

  @TempDir Path home;
  private final DistillationCore core = DistillationCore.open();
  private final List<String> told = new ArrayList<>();
  private SmallParent parent;
  private DeviceState state;
  private DeviceAgent agent;
  private final List<Long> answered = new ArrayList<>();
  private OnDeviceTrainer trainer;
  private boolean full = true;
  private boolean goesOn; // after it was welcomed
  private int unanswered;

  @BeforeEach
  void open() throws Exception {
    Identity identity = TestIdentity.open(home);
    parent = new SmallParent("edge-a", identity.facts().node);
    agent =
        agent(
            identity,
            (opened, me, config) -> {
              state = opened;
              return FakeLink.client(opened, me, URL, this::answer);
            });
    state.putText("home", URL);
    state.begin();
    state.join(); // it has been welcomed before
    state.commit();
  }

  private DeviceAgent agent(Identity identity, DeviceAgent.Clients clients) throws Exception {
    trainer = new KernelTrainer(new SoftmaxEngine(1, CLASSES), core);
    return new DeviceAgent(
        home.resolve("state"), new AgentConfig(URL), identity, new LessonTest.Hundredths(), trainer, core, new Noting(),
        clients);
  }

  private Response answer(Request request) throws Exception {
    if (unanswered > 0) {
      unanswered--;
      throw new java.io.IOException("log in to that network");
    }
    if (full) {
      full = false;
      JournalFaults.closeUnder(state);
    }
    if (request.path.equals("/v1/exchange")) {
      checkKept(Messages.Exchange.decode(request.body).knowledge);
    }
    return parent.any(request);
  }

  private final class Noting implements AgentListener {
    @Override
    public void connected(String name) {
      told.add("connected");
      if (!parent.finished && !goesOn) {
        agent.stop();
      }
    }

    @Override
    public void finished() {
      told.add("finished");
    }

    @Override
    public void unreachable(String why) {
      told.add(why);
    }

    @Override
    public void refused(String why) {
      told.add("refused");
      try {
        agent.forget(99); // nothing, but it need not wait until the disk may have room
      } catch (StorageException error) {
        throw new AssertionError(error);
      }
    }
  }

  @AfterEach
  void close() throws Exception {
    agent.close();
    core.close();
  }

  @Test
  void theEndIsNotLostOnAFullDisk() {
    parent.finished = true;
    assertTrue(agent.run(10));
    assertEquals(Arrays.asList("connected", "refused", "finished"), told);
  }

  @Test
  void whyTheParentCannotBeReachedIsToldOnce() {
    full = false;
    parent.finished = true;
    unanswered = 2;
    assertTrue(agent.run(10));
    assertEquals(3, told.size(), told.toString());
    assertTrue(told.get(0).contains("log in to that network"), told.get(0));
    assertEquals(Arrays.asList("connected", "finished"), told.subList(1, 3));
  }

  @Test
  void aWelcomeIsNotLostOnAFullDisk() throws Exception {
    state.putNumber("finished", 1); // the parent before said so, which this one takes back
    agent.run(10);
    assertEquals(Arrays.asList("refused", "connected"), told);
    assertEquals(0, state.number("finished", -1));
  }

  /**
   * The parent goes on with an answer. Were the weights that gave it kept later, a kill in between would have the round
   * run again, from newer knowledge than the answer's.
   */
  @Test
  void anAnswerLeavesOnlyOnceItsWeightsAreOnTheDisk() throws Exception {
    full = false;
    goesOn = true;
    agent.add(Arrays.asList(new float[] {0.1f}, new float[] {0.9f}), new int[] {0, 2});
    assertTrue(agent.run(60));
    assertEquals(Arrays.asList(0L, 1L, 2L), answered);
  }

  private void checkKept(Messages.WireKnowledge answer) throws Exception {
    if (goesOn && answer != null && !answered.contains(answer.version)) {
      Weights kept = Weights.load(home.resolve("state"));
      assertEquals(answer.version, kept.done);
      assertEquals(answer.basis, kept.trained);
      assertArrayEquals(trainer.save(), kept.state);
      answered.add(answer.version);
    }
    parent.finished = goesOn && answered.size() == 3;
    if (goesOn && parent.log.size() > 0 && !parent.finished) {
      parent.publish(answered.size(), CLASSES);
    }
  }

  @Test
  void anAgentThatCouldNotBeMadeLeavesItsFolderFree() throws Exception {
    agent.close();
    Identity identity = TestIdentity.open(home);
    DeviceAgent.Clients failing =
        (opened, me, config) -> {
          throw new OutOfMemoryError("no memory for a client");
        };
    assertThrows(OutOfMemoryError.class, () -> agent(identity, failing));
    DeviceState.open(home.resolve("state"), identity.facts().node).close();
  }
}
