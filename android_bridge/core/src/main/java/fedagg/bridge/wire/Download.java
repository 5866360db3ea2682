package fedagg.bridge.wire;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;

/** A payload on its way here, chunk by chunk, each checked as it comes. */
final class Download {
  private static final Messages.Limits OWN = Messages.Limits.initial(); // bound what comes, however little the parent takes

  final Messages.Entry entry; // one of the two is null
  final Messages.WireKnowledge knowledge;
  private final String base;
  private final Messages.Payload payload;
  private final ByteArrayOutputStream whole = new ByteArrayOutputStream();
  private int next;

  Download(Messages.Entry entry, Messages.Limits limits) throws ProtocolException {
    this("/v1/entries/" + entry.number, entry.payload, entry, null, limits, OWN.entryBytes);
  }

  Download(Messages.WireKnowledge knowledge, Messages.Limits limits) throws ProtocolException {
    this("/v1/knowledge/" + knowledge.version, knowledge.payload, null, knowledge, limits, OWN.staged);
  }

  private Download(
      String base, Messages.Payload payload, Messages.Entry entry, Messages.WireKnowledge knowledge,
      Messages.Limits limits, long most) throws ProtocolException {
    Payloads.check(base, payload, limits, most);
    this.base = base;
    this.payload = payload;
    this.entry = entry;
    this.knowledge = knowledge;
  }

  /** Of the next chunk. */
  String path() {
    return base + "/" + next;
  }

  /** Takes the next chunk; whether that was the last. */
  boolean add(byte[] chunk) throws ProtocolException {
    if (!Arrays.equals(Digests.of(chunk), payload.chunks.get(next))) {
      throw new ProtocolException(path() + ": got " + chunk.length + " bytes of another digest");
    }
    if ((long) whole.size() + chunk.length > payload.size) {
      throw new ProtocolException(base + ": got more than " + payload.size + " bytes");
    }
    whole.write(chunk, 0, chunk.length);
    next++;
    return next == payload.chunks.size();
  }

  /** All of it, checked as a whole. */
  byte[] whole() throws ProtocolException {
    byte[] data = whole.toByteArray();
    if (data.length != payload.size || !Arrays.equals(Digests.of(data), payload.digest)) {
      throw new ProtocolException(base + ": got " + data.length + " bytes that are not those of the digest named");
    }
    return data;
  }
}
