package fedagg.bridge.identity;

import fedagg.bridge.wire.Fixtures;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.spec.ECGenParameterSpec;

/** The identity of tests/jvm/chains/good-device.pem, whose key nobody has: for what never reaches a parent. */
public final class TestIdentity {
  private TestIdentity() {}

  public static Identity open(Path home) throws Exception {
    Path folder = Files.createDirectories(home.resolve("identity"));
    Path chains = Fixtures.root().resolve("tests/jvm/chains");
    Files.write(folder.resolve("authority.pem"), Files.readAllBytes(chains.resolve("root.pem")));
    Files.write(folder.resolve("certificate.pem"), Files.readAllBytes(chains.resolve("good-device.pem")));
    PublicKey shown = Pem.certificates(Files.readAllBytes(chains.resolve("good-device.pem"))).get(0).getPublicKey();
    KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
    generator.initialize(new ECGenParameterSpec("secp256r1"));
    PrivateKey other = generator.generateKeyPair().getPrivate();
    return Identity.open(
        folder,
        new NodeKey() {
          @Override
          public PrivateKey privateKey() {
            return other;
          }

          @Override
          public PublicKey publicKey() {
            return shown;
          }
        });
  }
}
