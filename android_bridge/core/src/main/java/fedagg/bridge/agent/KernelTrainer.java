package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillBatch;
import fedagg.bridge.kernels.DistillLoss;
import fedagg.bridge.kernels.DistillOptions;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.kernels.Logits;
import java.nio.ByteBuffer;

/** Trains an {@link Engine}: its forward and backward pass around the C++ loss kernel, and the C++ SGD update. */
public final class KernelTrainer implements OnDeviceTrainer {
  private final Engine engine;
  private final DistillationCore core;
  private final int parameters;
  private final ByteBuffer weights;
  private final ByteBuffer velocity;
  private final ByteBuffer gradient;
  private ByteBuffer logits = Buffers.floats(0);
  private ByteBuffer upstream = Buffers.floats(0);

  /** The engine is closed with this trainer, the core is not. */
  public KernelTrainer(Engine engine, DistillationCore core) {
    this.engine = engine;
    this.core = core;
    parameters = engine.parameters();
    weights = Buffers.floats(parameters);
    velocity = Buffers.floats(parameters);
    gradient = Buffers.floats(parameters);
    engine.initial(weights);
  }

  @Override
  public int sampleFloats() {
    return engine.sampleFloats();
  }

  @Override
  public int classes() {
    return engine.classes();
  }

  @Override
  public void logits(ByteBuffer samples, int rows, ByteBuffer out) throws TrainerException {
    engine.forward(weights, samples, rows, false, out);
  }

  @Override
  public StepReport step(Batch batch, Hyperparameters h) throws TrainerException {
    for (int i = 0; i < parameters; i++) {
      gradient.putFloat(4 * i, 0);
    }
    DistillLoss own = pass(batch.rows, batch.privateSamples, batch.labels, null, DistillOptions.crossEntropy(1));
    DistillLoss bridge = pass(batch.rows, batch.bridgeSamples, batch.labels, batch.teacher, h.bridgeLoss(batch.teacher != null));
    double loss = own.loss + bridge.loss;
    boolean finite = !Double.isNaN(loss) && !Double.isInfinite(loss);
    for (int i = 0; finite && i < parameters; i++) {
      float slope = gradient.getFloat(4 * i);
      finite = !Float.isNaN(slope) && !Float.isInfinite(slope);
    }
    if (!finite) {
      throw new TrainerException("step: got a loss of " + loss + " or a gradient that is not finite; lower the learning rate");
    }
    core.sgdStep(parameters, weights, gradient, velocity, h.learningRate, h.momentum, h.weightDecay, false);
    return new StepReport(loss, own.crossEntropy, bridge.crossEntropy, bridge.divergence);
  }

  private DistillLoss pass(int rows, ByteBuffer samples, ByteBuffer labels, ByteBuffer teacher, DistillOptions options)
      throws TrainerException {
    int bytes = 4 * rows * classes();
    if (logits.capacity() < bytes) {
      logits = Buffers.bytes(bytes);
      upstream = Buffers.bytes(bytes);
    }
    engine.forward(weights, samples, rows, true, logits);
    DistillBatch batch =
        new DistillBatch(rows, classes()).student(logits).labels(labels).gradient(upstream)
            .teacher(teacher == null ? null : Logits.f32(teacher));
    DistillLoss loss = core.distill(batch, options);
    engine.backward(weights, samples, rows, upstream, gradient);
    return loss;
  }

  @Override
  public byte[] save() {
    return FlatState.save(weights, velocity);
  }

  @Override
  public void load(byte[] state) throws TrainerException {
    FlatState.load(state, weights, velocity);
  }

  @Override
  public void close() {
    engine.close();
  }
}
