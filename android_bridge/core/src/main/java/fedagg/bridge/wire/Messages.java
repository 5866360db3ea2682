package fedagg.bridge.wire;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/** The messages of docs/protocol.md: each is one msgpack array, its fields by position. */
public final class Messages {
  /** The version that this library speaks; paths begin with it. */
  public static final long PROTOCOL = 1;

  /** Kinds of a log's entry. */
  public static final int APPEND = 1;

  public static final int FORGET = 2;
  public static final int RELEASE = 3;

  private static final byte[] NOT_COMPUTED = new byte[32];
  private static final long COUNT = 1L << 40;
  private static final long COUNTER = 1L << 62;
  private static final double SECONDS = 1e7;
  private static final double UNIX = 1e11;

  private Messages() {}

  /** In place of a set's digest: the sender did not compute it. */
  public static byte[] notComputed() {
    return NOT_COMPUTED.clone();
  }

  /** What all messages can. */
  public abstract static class Message {
    abstract void write(MsgpackWriter out);

    /** The message's bytes. */
    public byte[] encode() {
      MsgpackWriter out = new MsgpackWriter();
      write(out);
      return out.toBytes();
    }
  }

  /** How a message of one type is read. */
  interface Reader<M> {
    M read(MsgpackReader in) throws ProtocolException;
  }

  private static <M> M decode(String name, byte[] body, Reader<M> reader) throws ProtocolException {
    MsgpackReader in = new MsgpackReader(body);
    M message = reader.read(in);
    in.end(name);
    return message;
  }

  private static <M> List<M> list(MsgpackReader in, String field, int most, Reader<M> reader) throws ProtocolException {
    int count = in.array(field, most);
    List<M> found = new ArrayList<>(Math.min(count, 1024));
    for (int i = 0; i < count; i++) {
      found.add(reader.read(in));
    }
    return Collections.unmodifiableList(found);
  }

  private static void write(MsgpackWriter out, List<? extends Message> messages) {
    out.array(messages.size());
    for (Message message : messages) {
      message.write(out);
    }
  }

  private static void writeBytes(MsgpackWriter out, List<byte[]> values) {
    out.array(values.size());
    for (byte[] value : values) {
      out.bytes(value);
    }
  }

  private static void writeTexts(MsgpackWriter out, List<String> values) {
    out.array(values.size());
    for (String value : values) {
      out.text(value);
    }
  }

  private static List<byte[]> digests(MsgpackReader in, String field) throws ProtocolException {
    return list(in, field, 16_384, each -> each.bytes(field, 32, 32));
  }

  /** Where bytes are: in {@code inline}, or in chunks that travel by themselves, named by their SHA-256 in order. */
  public static final class Payload extends Message {
    public final long size;
    public final byte[] digest;
    public final byte[] inline;
    public final List<byte[]> chunks;

    public Payload(long size, byte[] digest, byte[] inline, List<byte[]> chunks) {
      this.size = size;
      this.digest = digest;
      this.inline = inline;
      this.chunks = chunks;
    }

    static Payload read(MsgpackReader in) throws ProtocolException {
      in.message("payload", 4);
      return new Payload(
          in.integer("payload.size", 0, COUNT), in.bytes("payload.digest", 32, 32),
          in.bytes("payload.inline", 0, 1 << 24), digests(in, "payload.chunks"));
    }

    public static Payload decode(byte[] body) throws ProtocolException {
      return Messages.decode("payload", body, Payload::read);
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(4).integer(size).bytes(digest).bytes(inline);
      writeBytes(out, chunks);
    }
  }

  /** Opens a session: who the child is, what it speaks, and the last entry of the log that it knows. */
  public static final class Hello extends Message {
    public final long oldest;
    public final long newest;
    public final String software;
    public final String node;
    public final String role;
    public final String federation;
    public final List<String> formats;
    public final long fence;
    public final long head;
    public final byte[] digest;
    public final String labels;

    public Hello(
        long oldest, long newest, String software, String node, String role, String federation, List<String> formats,
        long fence, long head, byte[] digest, String labels) {
      this.oldest = oldest;
      this.newest = newest;
      this.software = software;
      this.node = node;
      this.role = role;
      this.federation = federation;
      this.formats = formats;
      this.fence = fence;
      this.head = head;
      this.digest = digest;
      this.labels = labels;
    }

    public static Hello decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "hello", body,
          in -> {
            in.message("hello", 11);
            return new Hello(
                in.integer("hello.oldest", 0, COUNT), in.integer("hello.newest", 0, COUNT),
                in.text("hello.software", 0, 256), in.text("hello.node", 1, 64), in.text("hello.role", 1, 64),
                in.text("hello.federation", 0, 256),
                list(in, "hello.formats", 16, each -> each.text("hello.formats", 1, 64)),
                in.integer("hello.fence", 0, COUNTER), in.integer("hello.head", 0, COUNTER),
                in.bytes("hello.digest", 32, 32), in.text("hello.labels", 1, 64));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(11).integer(oldest).integer(newest).text(software).text(node).text(role).text(federation);
      writeTexts(out, formats);
      out.integer(fence).integer(head).bytes(digest).text(labels);
    }
  }

  /** A file that the federation pins. */
  public static final class Artefact extends Message {
    public final String name;
    public final byte[] digest;
    public final long size;
    public final byte[] signature;
    public final String media;

    public Artefact(String name, byte[] digest, long size, byte[] signature, String media) {
      this.name = name;
      this.digest = digest;
      this.size = size;
      this.signature = signature;
      this.media = media;
    }

    static Artefact read(MsgpackReader in) throws ProtocolException {
      in.message("artefact", 5);
      return new Artefact(
          in.text("artefact.name", 0, 256), in.bytes("artefact.digest", 32, 32),
          in.integer("artefact.size", 0, COUNT), in.bytes("artefact.signature", 0, 8192),
          in.text("artefact.media", 0, 256));
    }

    public static Artefact decode(byte[] body) throws ProtocolException {
      return Messages.decode("artefact", body, Artefact::read);
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(5).text(name).bytes(digest).integer(size).bytes(signature).text(media);
    }
  }

  /** What a node has to give to any node of its federation; each travels in parts of {@code chunk} bytes. */
  public static final class Offered extends Message {
    public final long chunk;
    public final List<Artefact> artefacts;

    public Offered(long chunk, List<Artefact> artefacts) {
      this.chunk = chunk;
      this.artefacts = artefacts;
    }

    public static Offered decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "offered", body,
          in -> {
            in.message("offered", 2);
            return new Offered(
                in.integer("offered.chunk", 256, 1 << 24), list(in, "offered.artefacts", 32, Artefact::read));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(2).integer(chunk);
      Messages.write(out, artefacts);
    }
  }

  /** What a parent takes from one child; bytes unless said otherwise. */
  public static final class Limits extends Message {
    public final long message;
    public final long inline;
    public final long chunk;
    public final long entryRows;
    public final long entryBytes;
    public final long samples;
    public final long classes;
    public final double wait;
    public final long staged;
    public final long requestsPerMinute;
    public final long bytesPerMinute;

    public Limits(
        long message, long inline, long chunk, long entryRows, long entryBytes, long samples, long classes, double wait,
        long staged, long requestsPerMinute, long bytesPerMinute) {
      this.message = message;
      this.inline = inline;
      this.chunk = chunk;
      this.entryRows = entryRows;
      this.entryBytes = entryBytes;
      this.samples = samples;
      this.classes = classes;
      this.wait = wait;
      this.staged = staged;
      this.requestsPerMinute = requestsPerMinute;
      this.bytesPerMinute = bytesPerMinute;
    }

    /** What this end keeps to before its parent has said anything; what the reference implementation begins with. */
    public static Limits initial() {
      return new Limits(
          65_536, 65_536, 1 << 20, 65_536, 64 << 20, 5_000_000, 65_536, 60, 256 << 20, 600, 256 << 20);
    }

    /** The smaller of each limit, and the parent's layout of messages and chunks: both ends must cut payloads alike. */
    public Limits narrowed(Limits parent) {
      return new Limits(
          parent.message, parent.inline, parent.chunk, Math.min(entryRows, parent.entryRows),
          Math.min(entryBytes, parent.entryBytes), Math.min(samples, parent.samples), Math.min(classes, parent.classes),
          Math.min(wait, parent.wait), Math.min(staged, parent.staged),
          Math.min(requestsPerMinute, parent.requestsPerMinute), Math.min(bytesPerMinute, parent.bytesPerMinute));
    }

    /** The longest body of a message. */
    public long body() {
      return message + inline;
    }

    static Limits read(MsgpackReader in) throws ProtocolException {
      in.message("limits", 11);
      Limits found =
          new Limits(
              in.integer("limits.message", 16_384, 1 << 24), in.integer("limits.inline", 0, 1 << 24),
              in.integer("limits.chunk", 256, 1 << 24), in.integer("limits.entry_rows", 1, COUNT),
              in.integer("limits.entry_bytes", 1, COUNT), in.integer("limits.samples", 1, COUNT),
              in.integer("limits.classes", 1, COUNT), in.number("limits.wait", 0, 3600),
              in.integer("limits.staged", 1, COUNT), in.integer("limits.requests_per_minute", 1, COUNT),
              in.integer("limits.bytes_per_minute", 1, COUNT));
      long room = found.message / 2 / 34 * found.chunk; // half a message holds the digests, 34 bytes each
      if (Math.max(found.entryBytes, found.staged) > room) {
        throw new ProtocolException(
            "limits: got " + Math.max(found.entryBytes, found.staged) + " bytes in chunks of " + found.chunk
                + ", expected at most " + room);
      }
      return found;
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(11).integer(message).integer(inline).integer(chunk).integer(entryRows).integer(entryBytes)
          .integer(samples).integer(classes).number(wait).integer(staged).integer(requestsPerMinute)
          .integer(bytesPerMinute);
    }
  }

  /** The answer to Hello; {@code version} is the newest knowledge of the child that the parent has committed. */
  public static final class Welcome extends Message {
    public final long protocol;
    public final String software;
    public final String node;
    public final String federation;
    public final long classes;
    public final double time;
    public final long fence;
    public final long head;
    public final byte[] digest;
    public final long version;
    public final String mode;
    public final long target;
    public final boolean finished;
    public final Limits limits;
    public final List<Artefact> artefacts;

    public Welcome(
        long protocol, String software, String node, String federation, long classes, double time, long fence, long head,
        byte[] digest, long version, String mode, long target, boolean finished, Limits limits,
        List<Artefact> artefacts) {
      this.protocol = protocol;
      this.software = software;
      this.node = node;
      this.federation = federation;
      this.classes = classes;
      this.time = time;
      this.fence = fence;
      this.head = head;
      this.digest = digest;
      this.version = version;
      this.mode = mode;
      this.target = target;
      this.finished = finished;
      this.limits = limits;
      this.artefacts = artefacts;
    }

    public static Welcome decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "welcome", body,
          in -> {
            in.message("welcome", 15);
            return new Welcome(
                in.integer("welcome.protocol", 0, COUNT), in.text("welcome.software", 0, 256),
                in.text("welcome.node", 1, 64), in.text("welcome.federation", 0, 256),
                in.integer("welcome.classes", 0, COUNT), in.number("welcome.time", 0, UNIX),
                in.integer("welcome.fence", 0, COUNTER), in.integer("welcome.head", 0, COUNTER),
                in.bytes("welcome.digest", 32, 32), in.integer("welcome.version", -1, COUNTER),
                in.text("welcome.mode", 1, 64), in.integer("welcome.target", 0, COUNT), in.bool("welcome.finished"),
                Limits.read(in), list(in, "welcome.artefacts", 32, Artefact::read));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(15).integer(protocol).text(software).text(node).text(federation).integer(classes).number(time)
          .integer(fence).integer(head).bytes(digest).integer(version).text(mode).integer(target).bool(finished);
      limits.write(out);
      Messages.write(out, artefacts);
    }
  }

  /** Asks for one more entry behind {@code after}; {@code key} counts the child's own batches, none is used twice. */
  public static final class Append extends Message {
    public final long key;
    public final long after;
    public final int kind;
    public final long rows;
    public final byte[] digest;
    public final Payload payload;
    public final long fence;

    public Append(long key, long after, int kind, long rows, byte[] digest, Payload payload, long fence) {
      this.key = key;
      this.after = after;
      this.kind = kind;
      this.rows = rows;
      this.digest = digest;
      this.payload = payload;
      this.fence = fence;
    }

    public static Append decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "append", body,
          in -> {
            in.message("append", 7);
            return new Append(
                in.integer("append.key", 0, COUNTER), in.integer("append.after", 0, COUNTER),
                (int) in.integer("append.kind", APPEND, FORGET), in.integer("append.rows", 0, COUNT),
                in.bytes("append.digest", 32, 32), Payload.read(in), in.integer("append.fence", 0, COUNTER));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(7).integer(key).integer(after).integer(kind).integer(rows).bytes(digest);
      payload.write(out);
      out.integer(fence);
    }
  }

  /** The entry is committed; {@code digest} names the set behind it. {@code already}: it was before. */
  public static final class Appended extends Message {
    public final long entry;
    public final byte[] digest;
    public final boolean already;

    public Appended(long entry, byte[] digest, boolean already) {
      this.entry = entry;
      this.digest = digest;
      this.already = already;
    }

    public static Appended decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "appended", body,
          in -> {
            in.message("appended", 3);
            return new Appended(
                in.integer("appended.entry", 0, COUNTER), in.bytes("appended.digest", 32, 32),
                in.bool("appended.already"));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(3).integer(entry).bytes(digest).bool(already);
    }
  }

  /** An entry of the log. {@code key} is the child's own, or -1 where the parent wrote it. */
  public static final class Entry extends Message {
    public final long number;
    public final int kind;
    public final long key;
    public final long rows;
    public final byte[] digest;
    public final Payload payload;

    public Entry(long number, int kind, long key, long rows, byte[] digest, Payload payload) {
      this.number = number;
      this.kind = kind;
      this.key = key;
      this.rows = rows;
      this.digest = digest;
      this.payload = payload;
    }

    static Entry read(MsgpackReader in) throws ProtocolException {
      in.message("entry", 6);
      return new Entry(
          in.integer("entry.number", 1, COUNTER), (int) in.integer("entry.kind", APPEND, RELEASE),
          in.integer("entry.key", -1, COUNTER), in.integer("entry.rows", 0, COUNT), in.bytes("entry.digest", 32, 32),
          Payload.read(in));
    }

    public static Entry decode(byte[] body) throws ProtocolException {
      return Messages.decode("entry", body, Entry::read);
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(6).integer(number).integer(kind).integer(key).integer(rows).bytes(digest);
      payload.write(out);
    }
  }

  /** Answers an Append whose {@code after} is not the head: what the child has missed, oldest first. */
  public static final class Behind extends Message {
    public final long head;
    public final List<Entry> entries;

    public Behind(long head, List<Entry> entries) {
      this.head = head;
      this.entries = entries;
    }

    public static Behind decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "behind", body,
          in -> {
            in.message("behind", 2);
            return new Behind(in.integer("behind.head", 0, COUNTER), list(in, "behind.entries", 1024, Entry::read));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(2).integer(head);
      Messages.write(out, entries);
    }
  }

  /** Knowledge without what the link implies: federation, link and publisher are the connection's. */
  public static final class WireKnowledge extends Message {
    public final long version;
    public final long basis;
    public final byte[] digest;
    public final long viewSeed;
    public final String format;
    public final long rows;
    public final long classes;
    public final Payload payload;

    public WireKnowledge(
        long version, long basis, byte[] digest, long viewSeed, String format, long rows, long classes,
        Payload payload) {
      this.version = version;
      this.basis = basis;
      this.digest = digest;
      this.viewSeed = viewSeed;
      this.format = format;
      this.rows = rows;
      this.classes = classes;
      this.payload = payload;
    }

    static WireKnowledge read(MsgpackReader in) throws ProtocolException {
      in.message("knowledge", 8);
      return new WireKnowledge(
          in.integer("knowledge.version", 0, COUNTER), in.integer("knowledge.basis", -1, COUNTER),
          in.bytes("knowledge.digest", 32, 32), in.integer("knowledge.view_seed", 0, Long.MAX_VALUE),
          in.text("knowledge.format", 1, 64), in.integer("knowledge.rows", 0, COUNT),
          in.integer("knowledge.classes", 0, COUNT), Payload.read(in));
    }

    public static WireKnowledge decode(byte[] body) throws ProtocolException {
      return Messages.decode("knowledge", body, WireKnowledge::read);
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(8).integer(version).integer(basis).bytes(digest).integer(viewSeed).text(format).integer(rows)
          .integer(classes);
      payload.write(out);
    }
  }

  /** Gives knowledge, or asks for news, or both; held for up to {@code wait} seconds while there is none. */
  public static final class Exchange extends Message {
    public final long have;
    public final long head;
    public final long noticed;
    public final double wait;
    public final long fence;
    public final WireKnowledge knowledge;
    public final List<byte[]> receipts;

    /** {@code knowledge} may be null. */
    public Exchange(
        long have, long head, long noticed, double wait, long fence, WireKnowledge knowledge, List<byte[]> receipts) {
      this.have = have;
      this.head = head;
      this.noticed = noticed;
      this.wait = wait;
      this.fence = fence;
      this.knowledge = knowledge;
      this.receipts = receipts;
    }

    public static Exchange decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "exchange", body,
          in -> {
            in.message("exchange", 7);
            return new Exchange(
                in.integer("exchange.have", -1, COUNTER), in.integer("exchange.head", 0, COUNTER),
                in.integer("exchange.noticed", 0, COUNTER), in.number("exchange.wait", 0, SECONDS),
                in.integer("exchange.fence", 0, COUNTER),
                in.isNil("exchange.knowledge") ? null : WireKnowledge.read(in),
                list(in, "exchange.receipts", 64, each -> each.bytes("exchange.receipts", 0, 4096)));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(7).integer(have).integer(head).integer(noticed).number(wait).integer(fence);
      if (knowledge == null) {
        out.nil();
      } else {
        knowledge.write(out);
      }
      writeBytes(out, receipts);
    }
  }

  /** News that is neither entry nor knowledge; {@code body} is msgpack, its shape is the kind's. */
  public static final class Notice extends Message {
    public final long number;
    public final String kind;
    public final byte[] body;

    public Notice(long number, String kind, byte[] body) {
      this.number = number;
      this.kind = kind;
      this.body = body;
    }

    static Notice read(MsgpackReader in) throws ProtocolException {
      in.message("notice", 3);
      return new Notice(
          in.integer("notice.number", 1, COUNTER), in.text("notice.kind", 1, 64), in.bytes("notice.body", 0, 65_536));
    }

    public static Notice decode(byte[] body) throws ProtocolException {
      return Messages.decode("notice", body, Notice::read);
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(3).integer(number).text(kind).bytes(body);
    }
  }

  /** The parent's side: what it has of the child, and what the child has not seen. */
  public static final class Exchanged extends Message {
    public final long version;
    public final long head;
    public final List<Entry> entries;
    public final WireKnowledge knowledge;
    public final List<Notice> notices;
    public final boolean finished;
    public final double retryAfter;

    /** {@code knowledge} may be null. */
    public Exchanged(
        long version, long head, List<Entry> entries, WireKnowledge knowledge, List<Notice> notices, boolean finished,
        double retryAfter) {
      this.version = version;
      this.head = head;
      this.entries = entries;
      this.knowledge = knowledge;
      this.notices = notices;
      this.finished = finished;
      this.retryAfter = retryAfter;
    }

    public static Exchanged decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "exchanged", body,
          in -> {
            in.message("exchanged", 7);
            return new Exchanged(
                in.integer("exchanged.version", -1, COUNTER), in.integer("exchanged.head", 0, COUNTER),
                list(in, "exchanged.entries", 1024, Entry::read),
                in.isNil("exchanged.knowledge") ? null : WireKnowledge.read(in),
                list(in, "exchanged.notices", 1024, Notice::read), in.bool("exchanged.finished"),
                in.number("exchanged.retry_after", 0, SECONDS));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(7).integer(version).integer(head);
      Messages.write(out, entries);
      if (knowledge == null) {
        out.nil();
      } else {
        knowledge.write(out);
      }
      Messages.write(out, notices);
      out.bool(finished).number(retryAfter);
    }
  }

  /** Asked: chunks the child is about to name. Answered: those of them that the parent lacks. */
  public static final class Missing extends Message {
    public final List<byte[]> chunks;

    public Missing(List<byte[]> chunks) {
      this.chunks = chunks;
    }

    public static Missing decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "missing", body,
          in -> {
            in.message("missing", 1);
            return new Missing(digests(in, "missing.chunks"));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(1);
      writeBytes(out, chunks);
    }
  }

  /** Buys a certificate with a token; sent without one. */
  public static final class Enrol extends Message {
    public final String token;
    public final String node;
    public final String role;
    public final byte[] publicKey;
    public final byte[] proof;
    public final double time;

    public Enrol(String token, String node, String role, byte[] publicKey, byte[] proof, double time) {
      this.token = token;
      this.node = node;
      this.role = role;
      this.publicKey = publicKey;
      this.proof = proof;
      this.time = time;
    }

    public static Enrol decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "enrol", body,
          in -> {
            in.message("enrol", 6);
            return new Enrol(
                in.text("enrol.token", 1, 512), in.text("enrol.node", 1, 64), in.text("enrol.role", 1, 64),
                in.bytes("enrol.public_key", 0, 1024), in.bytes("enrol.proof", 0, 1024),
                in.number("enrol.time", 0, UNIX));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(6).text(token).text(node).text(role).bytes(publicKey).bytes(proof).number(time);
    }
  }

  /** Buys a certificate with the one before it, which may have expired. */
  public static final class Renew extends Message {
    public final byte[] certificate;
    public final byte[] publicKey;
    public final byte[] proof;
    public final double time;

    public Renew(byte[] certificate, byte[] publicKey, byte[] proof, double time) {
      this.certificate = certificate;
      this.publicKey = publicKey;
      this.proof = proof;
      this.time = time;
    }

    public static Renew decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "renew", body,
          in -> {
            in.message("renew", 4);
            return new Renew(
                in.bytes("renew.certificate", 0, 65_536), in.bytes("renew.public_key", 0, 1024),
                in.bytes("renew.proof", 0, 1024), in.number("renew.time", 0, UNIX));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(4).bytes(certificate).bytes(publicKey).bytes(proof).number(time);
    }
  }

  /** The certificate with its chain, and the authority to trust, both PEM. {@code node} is the parent. */
  public static final class Enrolled extends Message {
    public final byte[] certificate;
    public final byte[] authority;
    public final String node;
    public final String federation;

    public Enrolled(byte[] certificate, byte[] authority, String node, String federation) {
      this.certificate = certificate;
      this.authority = authority;
      this.node = node;
      this.federation = federation;
    }

    public static Enrolled decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "enrolled", body,
          in -> {
            in.message("enrolled", 4);
            return new Enrolled(
                in.bytes("enrolled.certificate", 0, 65_536), in.bytes("enrolled.authority", 0, 65_536),
                in.text("enrolled.node", 1, 64), in.text("enrolled.federation", 0, 256));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(4).bytes(certificate).bytes(authority).text(node).text(federation);
    }
  }

  /** The body of a notice of kind {@code move}: where to go, in order; none: to the child's own fallbacks. */
  public static final class MoveTo extends Message {
    public final List<String> urls;

    public MoveTo(List<String> urls) {
      this.urls = urls;
    }

    public static MoveTo decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "moveto", body,
          in -> {
            in.message("moveto", 1);
            return new MoveTo(list(in, "moveto.urls", 16, each -> each.text("moveto.urls", 0, 256)));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(1);
      writeTexts(out, urls);
    }
  }

  /** Asks a parent to take in {@code node}, which moved. {@code fence}: the number of the move. */
  public static final class Adopt extends Message {
    public final String node;
    public final List<String> origins;
    public final long fence;

    public Adopt(String node, List<String> origins, long fence) {
      this.node = node;
      this.origins = origins;
      this.fence = fence;
    }

    public static Adopt decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "adopt", body,
          in -> {
            in.message("adopt", 3);
            return new Adopt(
                in.text("adopt.node", 1, 64), list(in, "adopt.origins", 1024, each -> each.text("adopt.origins", 1, 64)),
                in.integer("adopt.fence", 1, COUNTER));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(3).text(node);
      writeTexts(out, origins);
      out.integer(fence);
    }
  }

  /** It belongs to the sender's link, and its rows are entries of the sender's log up to {@code head}. */
  public static final class Adopted extends Message {
    public final long fence;
    public final long head;

    public Adopted(long fence, long head) {
      this.fence = fence;
      this.head = head;
    }

    public static Adopted decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "adopted", body,
          in -> {
            in.message("adopted", 2);
            return new Adopted(in.integer("adopted.fence", 0, COUNTER), in.integer("adopted.head", 0, COUNTER));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(2).integer(fence).integer(head);
    }
  }

  /** The child goes; the parent no longer waits for it. */
  public static final class Leave extends Message {
    public final long fence;

    public Leave(long fence) {
      this.fence = fence;
    }

    public static Leave decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "leave", body,
          in -> {
            in.message("leave", 1);
            return new Leave(in.integer("leave.fence", 0, COUNTER));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(1).integer(fence);
    }
  }

  /** The answer to Leave. */
  public static final class Left extends Message {
    public final long head;

    public Left(long head) {
      this.head = head;
    }

    public static Left decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "left", body,
          in -> {
            in.message("left", 1);
            return new Left(in.integer("left.head", 0, COUNTER));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(1).integer(head);
    }
  }

  /** The body of every status from 400 on. */
  public static final class Problem extends Message {
    public final String code;
    public final String message;
    /** Seconds, or below 0 for none. */
    public final double retryAfter;

    public Problem(String code, String message, double retryAfter) {
      this.code = code;
      this.message = message;
      this.retryAfter = retryAfter;
    }

    public static Problem decode(byte[] body) throws ProtocolException {
      return Messages.decode(
          "problem", body,
          in -> {
            in.message("problem", 3);
            return new Problem(
                in.text("problem.code", 1, 64), in.text("problem.message", 0, 1024),
                in.isNil("problem.retry_after") ? -1 : in.number("problem.retry_after", 0, SECONDS));
          });
    }

    @Override
    void write(MsgpackWriter out) {
      out.array(3).text(code).text(message);
      if (retryAfter < 0) {
        out.nil();
      } else {
        out.number(retryAfter);
      }
    }
  }

  /** Whether two digests are the same. */
  public static boolean same(byte[] one, byte[] other) {
    return Arrays.equals(one, other);
  }
}
