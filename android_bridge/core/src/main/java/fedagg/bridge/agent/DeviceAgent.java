package fedagg.bridge.agent;

import fedagg.bridge.client.WireClient;
import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.IdentityException;
import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.state.OutboxFullException;
import fedagg.bridge.wire.ChildState.StorageException;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Event;
import fedagg.bridge.wire.Knowledge;
import fedagg.bridge.wire.Messages;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Deque;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;

/**
 * A device: takes in private samples as they come, trains beside them on what its parent knows, and answers the application.
 *
 * <p>{@link #add}, {@link #forget} and {@link #predict} may be called from any thread while {@link #run} works in one, but
 * never from an application's main thread: they wait for a batch at most, and all but predict for the disk. Whatever is
 * killed when: a sample that was taken in is there, its embedding reaches the parent once, and a round that was cut off is run
 * again from the weights that it began with; one that was stopped goes on where it was.
 */
public final class DeviceAgent implements AutoCloseable {
  private static final double FULL_WAIT = 5; // seconds until a full disk may have room

  private final AgentConfig config;
  private final DeviceState state;
  private final Bridge bridge;
  private final OnDeviceTrainer trainer;
  private final DistillationCore core;
  private final AgentListener listener;
  private final WireClient client;
  private final Learner learner; // bridge and trainer take one thread at a time: through it
  private final Deque<Event> unheeded = new ArrayDeque<>(); // what follows from them could not be written yet
  private final Object awake = new Object();
  private boolean poked;
  private volatile boolean stopping;
  private double deadline = Double.POSITIVE_INFINITY; // of the run under way, on its clock
  private volatile boolean usable; // the parent pins this bridge and this number of classes
  private int aside; // rows that the listener was told of
  private String trouble; // that the listener was told of
  private String mode = "sync";
  private long target;
  private long unusable = -1; // version of the parent's knowledge that this node could not use
  private String unusableBy = ""; // that parent

  /**
   * Opens the agent's state in {@code folder}. What it is given stays the caller's to close, after the agent.
   *
   * @throws TrainerException if the weights on disk are another model's
   */
  public DeviceAgent(
      Path folder, AgentConfig config, Identity identity, Bridge bridge, OnDeviceTrainer trainer, DistillationCore core,
      AgentListener listener) throws StorageException, IdentityException, TrainerException {
    this(folder, config, identity, bridge, trainer, core, listener, DeviceAgent::client);
  }

  DeviceAgent(
      Path folder, AgentConfig config, Identity identity, Bridge bridge, OnDeviceTrainer trainer, DistillationCore core,
      AgentListener listener, Clients clients) throws StorageException, IdentityException, TrainerException {
    if (bridge.sampleFloats() != trainer.sampleFloats()) {
      throw new TrainerException(
          "model: got one for samples of " + trainer.sampleFloats() + " numbers, expected the bridge's "
              + bridge.sampleFloats());
    }
    this.config = config;
    this.bridge = bridge;
    this.trainer = trainer;
    this.core = core;
    this.listener = listener;
    state = DeviceState.open(folder, identity.facts().node);
    boolean done = false;
    try {
      learner = new Learner(folder, bridge, trainer);
      client = clients.of(state, identity, config);
      done = true;
    } catch (IOException error) {
      throw new StorageException(folder + ": the weights cannot be read: " + error.getMessage(), error);
    } finally {
      if (!done) { // an Error, too: the folder would stay in use as long as the process lives
        state.close();
      }
    }
  }

  /** How an agent's client is made. */
  interface Clients {
    WireClient of(DeviceState state, Identity identity, AgentConfig config) throws IdentityException;
  }

  private static WireClient client(DeviceState state, Identity identity, AgentConfig config) throws IdentityException {
    return new WireClient(
        state, identity, config.url, config.fallbacks, config.lostAfter, "fedagg-bridge 0.1", config.labels,
        config.pollSeconds, new Random());
  }

  // for the application

  /**
   * Takes in samples on the model's scale, 0 to 1; when it returns they are on the disk.
   *
   * @return the first one's number, for {@link #forget}; the others follow. Numbers begin anywhere, and are given once
   */
  public long add(List<float[]> samples, int[] labels) throws StorageException, OutboxFullException {
    int floats = bridge.sampleFloats();
    if (samples.size() != labels.length || labels.length == 0) {
      throw new IllegalArgumentException(
          "samples: got " + samples.size() + " and " + labels.length + " labels, expected as many, at least one");
    }
    for (int i = 0; i < labels.length; i++) {
      checkSample(samples.get(i), floats);
      if (labels[i] < 0 || labels[i] >= trainer.classes()) {
        throw new IllegalArgumentException(
            "label: got " + labels[i] + ", expected 0 to " + (trainer.classes() - 1));
      }
    }
    byte[] codes = learner.encode(samples);
    long first = state.take(samples, labels, codes, bridge.embeddingBytes(), config.outboxBytes);
    poke();
    return first;
  }

  /** As {@link #add(List, int[])}, of one sample. */
  public long add(float[] sample, int label) throws StorageException, OutboxFullException {
    return add(Collections.singletonList(sample), new int[] {label});
  }

  private static void checkSample(float[] sample, int floats) {
    if (sample.length != floats) {
      throw new IllegalArgumentException("sample: got " + sample.length + " numbers, expected " + floats);
    }
    for (float value : sample) {
      if (!(value >= 0 && value <= 1)) { // NaN fails, too
        throw new IllegalArgumentException("sample: got " + value + ", expected the model's scale, 0 to 1");
      }
    }
  }

  /** How many samples are here. */
  public int samples() {
    return state.counters().length;
  }

  /** Erases samples by their numbers, here and at every ancestor. */
  public void forget(long... numbers) throws StorageException {
    state.forget(numbers);
    poke();
  }

  /**
   * The class of a sample on the model's scale, by the weights of the last round that was finished. Waits for a batch that is
   * being trained on, and while a round is under way loads weights to and fro.
   */
  public int predict(float[] sample) throws TrainerException {
    checkSample(sample, trainer.sampleFloats());
    ByteBuffer out = learner.predict(sample);
    int best = 0;
    for (int c = 1; c < trainer.classes(); c++) {
      best = out.getFloat(4 * c) > out.getFloat(4 * best) ? c : best;
    }
    return best;
  }

  /** Go to the parent at {@code url}; call it while {@link #run} is not working. */
  public void move(String url) throws StorageException {
    client.move(url);
  }

  /** The last round that was finished, -1 for none. */
  public long round() {
    return learner.last().done;
  }

  /** Whether the training is over. */
  public boolean isFinished() {
    return state.number("finished", 0) == 1;
  }

  /** Ends {@link #run} after the batch under way, for good: open another agent to go on. From any thread. */
  public void stop() {
    stopping = true;
    client.interrupt();
    poke();
  }

  private void poke() {
    synchronized (awake) {
      poked = true;
      awake.notifyAll();
    }
    client.interruptPoll(); // it would keep what is new from going out
  }

  /**
   * Frees the state; {@link #run} must have ended. Whoever is in {@link #predict} or {@link #add} is waited for, and who comes
   * later gets an IllegalStateException or a StorageException: bridge and trainer may be closed then.
   */
  @Override
  public void close() throws StorageException {
    learner.close();
    state.close();
  }

  // the work

  /** Talks and trains until {@link #stop}, or until the training is over and nothing waits for the parent. */
  public void run() {
    run(Double.POSITIVE_INFINITY);
  }

  /**
   * As {@link #run()}, for {@code seconds} at most (a batch or a poll may outlast them); whether it is all over. A round that
   * is not done by then goes on in the next run, also of another process.
   */
  public boolean run(double seconds) {
    deadline = clock() + seconds;
    while (!mustEnd()) {
      try {
        boolean over = isFinished() && state.pendingKey() < 0 && usable;
        if (over) {
          return true;
        }
        client.end().setReady(state.head() > 0);
        if (unheeded.isEmpty()) {
          unheeded.addAll(client.turn(clock()));
          tellTrouble();
        }
        heedAll();
        finishIfOver();
        tellAside();
        boolean worked = usable && takeTurn();
        if (!worked && !stopping) {
          rest(Math.min(client.end().wake(), deadline));
        }
      } catch (StorageException error) {
        listener.refused(error.getMessage());
        rest(clock() + FULL_WAIT);
      }
    }
    return isFinished();
  }

  private static double clock() {
    return System.nanoTime() / 1e9;
  }

  private void rest(double until) {
    synchronized (awake) {
      while (!poked && !stopping) {
        double left = until - clock();
        if (left <= 0) {
          break;
        }
        try {
          awake.wait(Math.max(1, (long) (1000 * Math.min(left, 3600))));
        } catch (InterruptedException error) {
          stopping = true;
          Thread.currentThread().interrupt();
        }
      }
      poked = false;
    }
  }

  private void tellTrouble() {
    String now = client.trouble();
    if (now != null && !now.equals(trouble)) {
      listener.unreachable(now);
    }
    trouble = now;
  }

  private void tellAside() {
    int rows = 0;
    for (long key : client.end().aside()) {
      rows += state.batchRows(key);
    }
    if (rows != aside) {
      aside = rows;
      listener.setAside(rows);
    }
  }

  private void heedAll() throws StorageException {
    while (!unheeded.isEmpty()) {
      Event event = unheeded.poll();
      try {
        heed(event);
      } catch (StorageException error) {
        unheeded.addFirst(event); // the parent does not tell it again
        throw error;
      }
    }
  }

  private void finishIfOver() throws StorageException {
    if (client.end().isFinished() && !isFinished()) {
      state.putNumber("finished", 1);
      learner.discard();
      listener.finished();
    }
  }

  private void heed(Event event) throws StorageException {
    switch (event.kind) {
      case WELCOMED:
        welcomed(event.welcome);
        break;
      case REFUSED:
        listener.refused(event.problem.message + " (" + event.problem.code + ", status " + event.number + ")");
        break;
      default:
    }
  }

  private void welcomed(Messages.Welcome welcome) throws StorageException {
    mode = welcome.mode;
    target = welcome.target;
    if (!welcome.finished && isFinished()) {
      state.putNumber("finished", 0); // another parent goes on
    }
    String wrong = null;
    if (welcome.classes != trainer.classes()) {
      wrong = "model: got one of " + trainer.classes() + " classes, the federation has " + welcome.classes;
    }
    for (Messages.Artefact artefact : welcome.artefacts) {
      if (artefact.name.equals("autoencoder") && !Arrays.equals(artefact.digest, bridge.digest())) {
        wrong =
            "bridge: got autoencoder " + Digests.hex(bridge.digest()).substring(0, 12) + ", the federation pins "
                + Digests.hex(artefact.digest).substring(0, 12);
      }
    }
    usable = wrong == null;
    if (wrong != null) {
      listener.refused(wrong + "; update the application");
    } else {
      listener.connected(welcome.node);
    }
  }

  /** Takes the turn that is due, if any: sync answers the parent's newest version, async whatever is new. */
  private boolean takeTurn() throws StorageException {
    String parent = client.end().parent();
    Knowledge heard = parent == null ? null : state.heard(parent);
    if (heard == null || state.shared().length == 0) {
      return false;
    }
    Weights last = learner.last();
    boolean fresh = !parent.equals(last.parent); // another parent's versions may be behind the old one's
    Knowledge told = state.told(parent);
    boolean due = fresh || (mode.equals("sync") ? heard.version > last.done : heard.version > last.trained);
    boolean over = isFinished() || (mode.equals("sync") && target > 0 && heard.version >= target);
    if (due && !over && !(heard.version == unusable && parent.equals(unusableBy))) {
      return round(parent, heard, mode.equals("sync") ? heard.version : last.done + 1);
    }
    if (!fresh && last.done >= 0 && !isFinished() && (told == null || told.version < last.done)) {
      return publish(parent, last.done, last.trained); // it was killed between its weights and its answer
    }
    return false;
  }

  private boolean round(String parent, Knowledge heard, long version) throws StorageException {
    StepReport report;
    Round round;
    try {
      long seed = new SplittableRandom(config.seed * 31 + version).nextLong();
      round = new Round(Lesson.of(heard, state, bridge, core, trainer.classes()), config.hyperparameters, seed);
      report = learner.learn(round, new Weights(version, heard.version, parent, null), this::mustEnd);
    } catch (TrainerException | RuntimeException error) { // the latter of the runtime that trains, or of the kernels
      unusable = heard.version;
      unusableBy = parent;
      listener.refused(told(error));
      return false;
    }
    if (report == null) {
      return false; // it goes on the next time
    }
    listener.round(version, round.size(), report);
    publish(parent, version, heard.version);
    return true;
  }

  private boolean mustEnd() {
    return stopping || clock() >= deadline;
  }

  private static String told(Exception error) {
    return error.getMessage() == null ? error.toString() : error.getMessage();
  }

  /** Gives the parent this node's logits on the bridge samples that the two share. */
  private boolean publish(String parent, long version, long basis) throws StorageException {
    long[] shared = state.shared();
    int classes = trainer.classes();
    List<byte[]> codes = new ArrayList<>();
    for (long counter : shared) {
      byte[] code = state.code(counter);
      if (code == null) {
        return false; // it was forgotten here, and the parent is about to know
      }
      codes.add(code);
    }
    byte[] data;
    try {
      ByteBuffer logits = learner.logits(codes, () -> stopping); // a few batches: no deadline is worth another run
      if (logits == null) {
        return false; // the next run publishes
      }
      data = pack(logits, shared.length, classes);
    } catch (TrainerException | RuntimeException error) {
      listener.refused(told(error));
      return false;
    }
    state.tell(
        parent,
        new Knowledge(version, basis, state.headDigest(), 0, config.knowledge, shared.length, classes, data));
    return true;
  }

  private byte[] pack(ByteBuffer logits, int rows, int classes) {
    int cells = rows * classes;
    if (config.knowledge.equals("f32")) {
      return Buffers.toBytes(logits, 4 * cells);
    }
    if (config.knowledge.equals("f16")) {
      ByteBuffer half = Buffers.bytes(2 * cells);
      core.toF16(cells, logits, half);
      return Buffers.toBytes(half, 2 * cells);
    }
    ByteBuffer out = Buffers.bytes(4 * rows + cells);
    ByteBuffer values = out.duplicate();
    values.position(4 * rows);
    core.quantise(rows, classes, logits, values, out);
    return Buffers.toBytes(out, 4 * rows + cells);
  }
}
