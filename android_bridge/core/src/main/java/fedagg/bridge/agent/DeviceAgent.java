package fedagg.bridge.agent;

import fedagg.bridge.client.WireClient;
import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.IdentityException;
import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.kernels.KernelException;
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
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;

/**
 * A device: takes in private samples as they come, trains beside them on what its parent knows, and answers the application.
 *
 * <p>{@link #add} and {@link #predict} may be called from any thread while {@link #run} works in one. Whatever is killed
 * when: a sample that was taken in is there, its embedding reaches the parent once, and a round that was cut off is run
 * again from the weights that it began with.
 */
public final class DeviceAgent implements AutoCloseable {
  private static final int BLOCK = 64; // rows that go through encoder, decoder or model at once
  private static final double FULL_WAIT = 5; // seconds until a full disk may have room

  private final Path folder;
  private final AgentConfig config;
  private final DeviceState state;
  private final Bridge bridge;
  private final OnDeviceTrainer trainer;
  private final DistillationCore core;
  private final AgentListener listener;
  private final WireClient client;
  private final Object compute = new Object(); // bridge and trainer take one thread at a time
  private final Object awake = new Object();
  private boolean poked;
  private volatile boolean stopping;
  private boolean closed;
  private volatile boolean usable; // the parent pins this bridge and this number of classes
  private int aside; // rows that the listener was told of
  private String mode = "sync";
  private long target;
  private long done = -1;
  private long trained = -1;
  private String taughtBy = "";
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
    if (bridge.sampleFloats() != trainer.sampleFloats()) {
      throw new TrainerException(
          "model: got one for samples of " + trainer.sampleFloats() + " numbers, expected the bridge's "
              + bridge.sampleFloats());
    }
    this.folder = folder;
    this.config = config;
    this.bridge = bridge;
    this.trainer = trainer;
    this.core = core;
    this.listener = listener;
    state = DeviceState.open(folder, identity.facts().node);
    try {
      Weights saved = Weights.load(folder);
      if (saved != null) {
        trainer.load(saved.state);
        done = saved.done;
        trained = saved.trained;
        taughtBy = saved.parent;
      }
      client =
          new WireClient(
              state, identity, config.url, config.fallbacks, config.lostAfter, "fedagg-bridge 0.1", config.labels,
              config.pollSeconds, new Random());
    } catch (IOException error) {
      state.close();
      throw new StorageException(folder + ": the weights cannot be read: " + error.getMessage(), error);
    } catch (IdentityException | TrainerException | RuntimeException error) {
      state.close();
      throw error;
    }
  }

  // for the application

  /** Takes in samples on the model's scale, 0 to 1; when it returns they are on the disk. The first one's number. */
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
    byte[] codes = encode(samples);
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

  private byte[] encode(List<float[]> samples) {
    int floats = bridge.sampleFloats();
    byte[] all = new byte[samples.size() * bridge.embeddingBytes()];
    synchronized (compute) {
      for (int at = 0; at < samples.size(); at += BLOCK) {
        List<float[]> block = samples.subList(at, Math.min(samples.size(), at + BLOCK));
        ByteBuffer x = packed(block, floats);
        ByteBuffer codes = Buffers.bytes(block.size() * bridge.embeddingBytes());
        bridge.encode(x, block.size(), codes);
        codes.clear();
        codes.get(all, at * bridge.embeddingBytes(), codes.capacity());
      }
    }
    return all;
  }

  private static ByteBuffer packed(List<float[]> samples, int floats) {
    ByteBuffer x = Buffers.floats(samples.size() * floats);
    for (int i = 0; i < samples.size(); i++) {
      x.position(4 * i * floats);
      x.asFloatBuffer().put(samples.get(i));
    }
    x.clear();
    return x;
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

  /** The class of a sample on the model's scale, by the weights of now. */
  public int predict(float[] sample) throws TrainerException {
    checkSample(sample, trainer.sampleFloats());
    ByteBuffer out = Buffers.floats(trainer.classes());
    synchronized (compute) {
      trainer.logits(Buffers.of(sample), 1, out);
    }
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
    synchronized (compute) {
      return done;
    }
  }

  /** Whether the training is over. */
  public boolean isFinished() {
    return state.number("finished", 0) == 1;
  }

  /** Ends {@link #run} after the step under way; from any thread. */
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

  /** Frees the state; {@link #run} must have ended. */
  @Override
  public void close() throws StorageException {
    if (!closed) {
      closed = true;
      state.close();
    }
  }

  // the work

  /** Talks and trains until {@link #stop}, or until the training is over and nothing waits for the parent. */
  public void run() {
    run(Double.POSITIVE_INFINITY);
  }

  /** As {@link #run()}, for {@code seconds} at most (a step or a poll may outlast them); whether it is all over. */
  public boolean run(double seconds) {
    double began = clock();
    while (!stopping && clock() - began < seconds) {
      try {
        boolean over = isFinished() && state.pendingKey() < 0 && usable;
        if (over) {
          return true;
        }
        client.end().setReady(state.head() > 0);
        for (Event event : client.turn(clock())) {
          heed(event);
        }
        tellAside();
        boolean worked = usable && takeTurn();
        if (!worked && !stopping) {
          rest(Math.min(client.end().wake(), began + seconds));
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

  private void heed(Event event) throws StorageException {
    switch (event.kind) {
      case WELCOMED:
        welcomed(event.welcome);
        break;
      case FINISHED:
        state.putNumber("finished", 1);
        listener.finished();
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
    boolean fresh = !parent.equals(taughtBy); // another parent's versions may be behind the old one's
    Knowledge told = state.told(parent);
    boolean due = fresh || (mode.equals("sync") ? heard.version > done : heard.version > trained);
    boolean over = isFinished() || (mode.equals("sync") && target > 0 && heard.version >= target);
    if (due && !over && !(heard.version == unusable && parent.equals(unusableBy))) {
      return round(parent, heard, mode.equals("sync") ? heard.version : done + 1);
    }
    if (!fresh && done >= 0 && !isFinished() && (told == null || told.version < done)) {
      return publish(parent, done, trained); // it was killed between its weights and its answer
    }
    return false;
  }

  private boolean round(String parent, Knowledge heard, long version) throws StorageException {
    StepReport report;
    int rows;
    try {
      synchronized (compute) {
        byte[] before = trainer.save();
        Lesson lesson = Lesson.of(heard, state, bridge, core, trainer.classes());
        rows = lesson.size();
        try {
          Random random = new Random(new SplittableRandom(config.seed * 31 + version).nextLong());
          report = rows == 0 ? new StepReport(0, 0, 0, 0) : lesson.teach(trainer, config.hyperparameters, random);
        } catch (TrainerException | RuntimeException error) { // the latter also of the runtime that trains
          trainer.load(before);
          throw error;
        }
        try {
          new Weights(version, heard.version, parent, trainer.save()).save(folder);
        } catch (IOException error) {
          trainer.load(before); // run again once there is room
          throw new StorageException(folder + ": the weights cannot be written: " + error.getMessage(), error);
        }
        done = version;
        trained = heard.version;
        taughtBy = parent;
      }
    } catch (TrainerException | KernelException error) {
      unusable = heard.version;
      unusableBy = parent;
      listener.refused(error.getMessage());
      return false;
    }
    listener.round(version, rows, report);
    publish(parent, version, heard.version);
    return true;
  }

  /** Gives the parent this node's logits on the bridge samples that the two share. */
  private boolean publish(String parent, long version, long basis) throws StorageException {
    long[] shared = state.shared();
    int classes = trainer.classes();
    ByteBuffer logits = Buffers.floats(shared.length * classes);
    List<byte[]> codes = new ArrayList<>();
    for (long counter : shared) {
      byte[] code = state.code(counter);
      if (code == null) {
        return false; // it was forgotten here, and the parent is about to know
      }
      codes.add(code);
    }
    try {
      synchronized (compute) {
        predict(codes, logits);
      }
    } catch (TrainerException error) {
      listener.refused(error.getMessage());
      return false;
    }
    byte[] data = pack(logits, shared.length, classes);
    state.tell(
        parent,
        new Knowledge(version, basis, state.headDigest(), 0, config.knowledge, shared.length, classes, data));
    return true;
  }

  private void predict(List<byte[]> codes, ByteBuffer logits) throws TrainerException {
    int classes = trainer.classes();
    for (int at = 0; at < codes.size(); at += BLOCK) {
      int rows = Math.min(BLOCK, codes.size() - at);
      ByteBuffer block = Buffers.bytes(rows * bridge.embeddingBytes());
      for (int i = 0; i < rows; i++) {
        block.put(codes.get(at + i));
      }
      block.clear();
      ByteBuffer samples = Buffers.floats(rows * bridge.sampleFloats());
      bridge.decode(block, rows, samples);
      ByteBuffer out = Buffers.floats(rows * classes);
      trainer.logits(samples, rows, out);
      out.clear();
      logits.position(4 * at * classes);
      logits.put(out);
    }
    logits.clear();
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
