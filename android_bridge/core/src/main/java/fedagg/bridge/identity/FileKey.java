package fedagg.bridge.identity;

import fedagg.bridge.state.Durable;
import java.io.IOException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.List;

/** A key in a file of its own (PEM: PKCS #8, then the public key), for machines without a key store. */
public final class FileKey implements NodeKey {
  private final PrivateKey privateKey;
  private final PublicKey publicKey;

  private FileKey(PrivateKey privateKey, PublicKey publicKey) {
    this.privateKey = privateKey;
    this.publicKey = publicKey;
  }

  /** The key at {@code path}; a new one, if there is none. */
  public static FileKey open(Path path) throws IdentityException {
    try {
      if (!Files.exists(path)) {
        make(path);
      }
      byte[] content = Files.readAllBytes(path);
      List<byte[]> privates = Pem.blocks(content, "PRIVATE KEY");
      List<byte[]> publics = Pem.blocks(content, "PUBLIC KEY");
      if (privates.size() != 1 || publics.size() != 1) {
        throw new IdentityException(path + ": got no key pair in PEM; remove it and enrol again");
      }
      KeyFactory factory = KeyFactory.getInstance("EC");
      return new FileKey(
          factory.generatePrivate(new PKCS8EncodedKeySpec(privates.get(0))),
          factory.generatePublic(new X509EncodedKeySpec(publics.get(0))));
    } catch (IOException | GeneralSecurityException error) {
      throw new IdentityException(path + ": cannot be used as a key: " + error.getMessage(), error);
    }
  }

  private static void make(Path path) throws IOException, GeneralSecurityException {
    KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
    generator.initialize(new ECGenParameterSpec("secp256r1"));
    KeyPair pair = generator.generateKeyPair();
    byte[] one = Pem.encode("PRIVATE KEY", pair.getPrivate().getEncoded());
    byte[] other = Pem.encode("PUBLIC KEY", pair.getPublic().getEncoded());
    byte[] both = new byte[one.length + other.length];
    System.arraycopy(one, 0, both, 0, one.length);
    System.arraycopy(other, 0, both, one.length, other.length);
    Files.createDirectories(path.toAbsolutePath().getParent());
    // nobody else may read it, also not while it is being written
    Path beside = path.resolveSibling(path.getFileName() + ".new");
    Files.deleteIfExists(beside);
    if (FileSystems.getDefault().supportedFileAttributeViews().contains("posix")) {
      Files.createFile(beside, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    }
    Durable.replace(path, both);
  }

  @Override
  public PrivateKey privateKey() {
    return privateKey;
  }

  @Override
  public PublicKey publicKey() {
    return publicKey;
  }
}
