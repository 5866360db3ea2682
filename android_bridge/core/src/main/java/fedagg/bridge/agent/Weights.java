package fedagg.bridge.agent;

import fedagg.bridge.state.Durable;
import fedagg.bridge.wire.MsgpackReader;
import fedagg.bridge.wire.MsgpackWriter;
import fedagg.bridge.wire.ProtocolException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** A trainer's state on disk, with how far it has come: the newest, and the one before. */
final class Weights {
  /** The last version that was finished, -1 for none. */
  final long done;
  /** The newest version of the parent's knowledge that was trained on, and whose. */
  final long trained;

  final String parent;
  final byte[] state;

  Weights(long done, long trained, String parent, byte[] state) {
    this.done = done;
    this.trained = trained;
    this.parent = parent;
    this.state = state;
  }

  void save(Path folder) throws IOException {
    Path newest = folder.resolve("weights");
    if (Files.exists(newest)) {
      Files.move(
          newest, folder.resolve("weights.before"), StandardCopyOption.ATOMIC_MOVE,
          StandardCopyOption.REPLACE_EXISTING);
    }
    Sealed.write(
        newest, new MsgpackWriter().array(4).integer(done).integer(trained).text(parent).bytes(state).toBytes());
  }

  /** The newest that is whole, or null. */
  static Weights load(Path folder) throws IOException {
    Durable.sweep(folder.resolve("weights"));
    for (String name : new String[] {"weights", "weights.before"}) {
      byte[] body = Sealed.read(folder.resolve(name));
      Weights found = body == null ? null : read(body);
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  private static Weights read(byte[] body) {
    try {
      MsgpackReader in = new MsgpackReader(body);
      in.message("weights", 4);
      return new Weights(
          in.integer("done", -1, Long.MAX_VALUE), in.integer("trained", -1, Long.MAX_VALUE), in.text("parent", 0, 64),
          in.bytes("state", 0, Integer.MAX_VALUE));
    } catch (ProtocolException error) {
      return null; // of another version of this library
    }
  }
}
