package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.model.AutoencoderFile;
import java.nio.ByteBuffer;

/** A {@link Bridge} of an autoencoder's networks, by whatever runs them, and its byte code, by the C++ core. */
public final class LatentBridge implements Bridge {
  private final LatentNetworks networks;
  private final CodeLayout layout;
  private final DistillationCore core;
  private final byte[] digest;

  /** The bridge of an autoencoder's file; throws IllegalArgumentException if the networks are of another shape. */
  public LatentBridge(LatentNetworks networks, AutoencoderFile file, DistillationCore core) {
    this(networks, CodeLayout.of(file), core, file.digest());
    if (networks.sampleFloats() != file.sampleFloats() || networks.latentFloats() != file.latentFloats()) {
      throw new IllegalArgumentException(
          "networks: got " + networks.sampleFloats() + " numbers to " + networks.latentFloats() + ", the autoencoder's file has "
              + file.sampleFloats() + " to " + file.latentFloats() + "; take both of one autoencoder");
    }
  }

  /** {@code digest}: SHA-256 of the autoencoder's file. */
  public LatentBridge(LatentNetworks networks, CodeLayout layout, DistillationCore core, byte[] digest) {
    this.networks = networks;
    this.layout = layout;
    this.core = core;
    this.digest = digest.clone();
  }

  @Override
  public byte[] digest() {
    return digest.clone();
  }

  @Override
  public int sampleFloats() {
    return networks.sampleFloats();
  }

  @Override
  public int embeddingBytes() {
    return layout.bytes(core);
  }

  @Override
  public void encode(ByteBuffer samples, int rows, ByteBuffer codes) {
    ByteBuffer latents = Buffers.floats(rows * networks.latentFloats());
    networks.encode(samples, rows, latents);
    layout.encode(core, latents, rows, codes);
  }

  @Override
  public void decode(ByteBuffer codes, int rows, ByteBuffer samples) {
    ByteBuffer latents = Buffers.floats(rows * networks.latentFloats());
    layout.decode(core, codes, rows, latents);
    networks.decode(latents, rows, samples);
  }
}
