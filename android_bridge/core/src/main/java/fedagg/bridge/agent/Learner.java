package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.wire.ChildState.StorageException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;

/**
 * A device's model and bridge, which take one thread at a time, and its rounds. Nobody waits longer than a batch takes, and
 * while a round is under way the model answers by the weights from before.
 */
final class Learner {
  private static final int BLOCK = 64; // rows that go through encoder, decoder or model at once

  private final Path folder;
  private final Bridge bridge;
  private final OnDeviceTrainer trainer;
  private final ReentrantLock compute = new ReentrantLock(true); // fair: a round would take it again before who waits
  private byte[] good; // what answers while a round is under way; null: the trainer itself
  private boolean disturbed; // a prediction could not put back the weights of the middle of a round, which are lost
  private Paused unwritten; // a round that is over, for whose weights the disk had no room; of the thread that learns
  private boolean closed;
  private volatile Weights last = new Weights(-1, -1, "", null);

  /** Goes on from the weights in {@code folder}. Throws TrainerException if they are another model's. */
  Learner(Path folder, Bridge bridge, OnDeviceTrainer trainer) throws IOException, TrainerException {
    this.folder = folder;
    this.bridge = bridge;
    this.trainer = trainer;
    Weights saved = Weights.load(folder);
    if (saved != null) {
      trainer.load(saved.state);
      last = progress(saved);
    }
  }

  private static Weights progress(Weights of) {
    return new Weights(of.done, of.trained, of.parent, null); // the trainer has the rest
  }

  /** How far it has come; without the weights. */
  Weights last() {
    return last;
  }

  /** Waits for whoever is in model or bridge, and lets nobody in any more: their owner may close them then. */
  void close() {
    compute.lock();
    try {
      closed = true;
    } finally {
      compute.unlock();
    }
  }

  private void enter() {
    compute.lock();
    if (closed) { // it may be a runtime's memory that was freed
      compute.unlock();
      throw new IllegalStateException("this agent was closed; open another one");
    }
  }

  byte[] encode(List<float[]> samples) {
    int floats = bridge.sampleFloats();
    byte[] all = new byte[samples.size() * bridge.embeddingBytes()];
    for (int at = 0; at < samples.size(); at += BLOCK) {
      List<float[]> block = samples.subList(at, Math.min(samples.size(), at + BLOCK));
      ByteBuffer x = packed(block, floats);
      ByteBuffer codes = Buffers.bytes(block.size() * bridge.embeddingBytes());
      enter();
      try {
        bridge.encode(x, block.size(), codes);
      } finally {
        compute.unlock();
      }
      codes.clear();
      codes.get(all, at * bridge.embeddingBytes(), codes.capacity());
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

  /** The logits of one sample, by the weights of the last round that is whole. */
  ByteBuffer predict(float[] sample) throws TrainerException {
    ByteBuffer out = Buffers.floats(trainer.classes());
    enter();
    try {
      if (good == null) {
        trainer.logits(Buffers.of(sample), 1, out);
        return out;
      }
      if (disturbed) { // there is nothing to put back
        trainer.load(good);
        trainer.logits(Buffers.of(sample), 1, out);
        return out;
      }
      byte[] middle = trainer.save();
      disturbed = true;
      try {
        trainer.load(good);
        trainer.logits(Buffers.of(sample), 1, out);
      } finally {
        trainer.load(middle);
        disturbed = false;
      }
      return out;
    } finally {
      compute.unlock();
    }
  }

  /** Logits, binary32 [codes, classes], on bridge samples; null if {@code ends} said so before they were all there. */
  ByteBuffer logits(List<byte[]> codes, BooleanSupplier ends) throws TrainerException {
    int classes = trainer.classes();
    ByteBuffer logits = Buffers.floats(codes.size() * classes);
    for (int at = 0; at < codes.size(); at += BLOCK) {
      if (ends.getAsBoolean()) {
        return null;
      }
      int rows = Math.min(BLOCK, codes.size() - at);
      ByteBuffer block = Buffers.bytes(rows * bridge.embeddingBytes());
      for (int i = 0; i < rows; i++) {
        block.put(codes.get(at + i));
      }
      block.clear();
      ByteBuffer samples = Buffers.floats(rows * bridge.sampleFloats());
      ByteBuffer out = Buffers.floats(rows * classes);
      enter();
      try {
        settle();
        bridge.decode(block, rows, samples);
        trainer.logits(samples, rows, out);
      } finally {
        compute.unlock();
      }
      out.clear();
      logits.position(4 * at * classes);
      logits.put(out);
    }
    logits.clear();
    return logits;
  }

  /**
   * Trains, from where the same round was left, if it was. {@code ends} is asked before each batch: then the weights are
   * those from before again, and the round's are kept beside them for the next time.
   *
   * @param done what {@link #last} is afterwards, but for the weights
   * @return the means; null if it was ended
   */
  StepReport learn(Round round, Weights done, BooleanSupplier ends) throws TrainerException, StorageException {
    byte[] before = begin(round);
    boolean whole = false;
    try {
      while (!round.isOver()) {
        if (ends.getAsBoolean()) {
          pause(round);
          return null;
        }
        step(round);
      }
      keep(round, done);
      whole = true;
    } finally {
      if (!whole) {
        goBack(before);
      }
    }
    return round.means();
  }

  /** No round will be gone on with. */
  void discard() {
    unwritten = null;
    Paused.delete(folder);
  }

  private byte[] begin(Round round) throws TrainerException {
    enter();
    try {
      settle();
      byte[] before = trainer.save();
      good = before;
      Paused paused = paused();
      if (paused != null && paused.isOf(round)) {
        try {
          trainer.load(paused.state);
          paused.lead(round);
        } catch (TrainerException | RuntimeException error) { // the latter of the runtime that trains
          trainer.load(before); // it was another model's: the round begins anew
          unwritten = null;
          Paused.delete(folder); // or no round would ever begin
        }
      } else {
        unwritten = null;
      }
      return before;
    } finally {
      compute.unlock();
    }
  }

  /** What was left of a round, or null. */
  private Paused paused() {
    if (unwritten != null) {
      return unwritten;
    }
    try {
      return Paused.load(folder);
    } catch (IOException error) {
      return null; // it cannot be read: a round is repeated at worst
    }
  }

  /** Loads the good weights if the last round could not. */
  private void settle() throws TrainerException {
    if (good != null) {
      trainer.load(good);
      good = null;
      disturbed = false;
    }
  }

  private void checkUndisturbed() throws TrainerException {
    if (disturbed) {
      throw new TrainerException("round: a prediction could not put its weights back; it begins anew with the next version");
    }
  }

  private void step(Round round) throws TrainerException {
    enter();
    try {
      checkUndisturbed();
      round.step(trainer);
    } finally {
      compute.unlock();
    }
  }

  private void pause(Round round) throws TrainerException {
    byte[] state;
    enter();
    try {
      if (disturbed) {
        return; // the next time it begins anew, or where it was left before
      }
      state = trainer.save();
    } finally {
      compute.unlock();
    }
    try {
      Paused.of(round, state).save(folder);
    } catch (IOException error) {
      // no room: the round begins anew the next time, or where it was left before
    }
  }

  private void keep(Round round, Weights done) throws TrainerException, StorageException {
    byte[] state;
    enter();
    try {
      checkUndisturbed();
      state = trainer.save();
    } finally {
      compute.unlock();
    }
    try { // `good` answers meanwhile: what is not on the disk may be lost
      new Weights(done.done, done.trained, done.parent, state).save(folder);
    } catch (IOException error) {
      unwritten = Paused.of(round, state); // the next time it is written, not trained again
      throw new StorageException(folder + ": the weights cannot be written: " + error.getMessage(), error);
    }
    unwritten = null;
    enter();
    try {
      if (disturbed) { // by a prediction during the write
        trainer.load(state);
        disturbed = false;
      }
      good = null;
      last = progress(done);
    } finally {
      compute.unlock();
    }
    Paused.delete(folder);
  }

  private void goBack(byte[] before) throws TrainerException {
    compute.lock();
    try {
      if (closed) {
        return;
      }
      trainer.load(before); // should it throw, `good` goes on answering, and the next round tries again
      good = null;
      disturbed = false;
    } finally {
      compute.unlock();
    }
  }
}
