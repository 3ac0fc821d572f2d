// Copyright (c) certflow.kubernetes contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Command verdict tells what a Go TLS client says of certificates. It reads a JSON list of cases from standard input
// and writes a JSON list of verdicts, in the same order.
package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"log"
	"os"
	"time"
)

type testCase struct {
	Leaf          string   `json:"leaf"`
	Intermediates []string `json:"intermediates"`
	Bundle        string   `json:"bundle"`
	Name          string   `json:"name"`
	Time          int64    `json:"time"`
	Usage         string   `json:"usage"`
}

type verdict struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error"`
	Anchors []string `json:"anchors"`
}

var usages = map[string]x509.ExtKeyUsage{
	"server auth": x509.ExtKeyUsageServerAuth,
	"client auth": x509.ExtKeyUsageClientAuth,
	"any":         x509.ExtKeyUsageAny,
}

func main() {
	var cases []testCase
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		log.Fatal(err)
	}
	verdicts := make([]verdict, 0, len(cases))
	for _, c := range cases {
		verdicts = append(verdicts, judge(c))
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		log.Fatal(err)
	}
}

func judge(c testCase) verdict {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(c.Bundle)) {
		return verdict{Error: "unable to load root certificates: no valid certificate authority data seen"}
	}
	leaf, err := parse(c.Leaf)
	if err != nil {
		return verdict{Error: "failed to parse certificate: " + err.Error()}
	}
	intermediates := x509.NewCertPool()
	for _, text := range c.Intermediates {
		intermediate, err := parse(text)
		if err != nil {
			return verdict{Error: "failed to parse certificate: " + err.Error()}
		}
		intermediates.AddCert(intermediate)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		DNSName:       c.Name,
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   time.Unix(c.Time, 0).UTC(),
		KeyUsages:     []x509.ExtKeyUsage{usages[c.Usage]},
	})
	if err != nil {
		return verdict{Error: err.Error()}
	}
	switch leaf.PublicKey.(type) { // the same question as crypto/tls asks after Verify
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return verdict{Error: "server's certificate contains an unsupported type of public key"}
	}
	return verdict{OK: true, Anchors: anchors(chains)}
}

func parse(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		log.Fatal("a case without PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// anchors returns the fingerprints of the roots of the chains, each once, in the order found.
func anchors(chains [][]*x509.Certificate) []string {
	found := []string{}
	seen := map[string]bool{}
	for _, chain := range chains {
		sum := sha256.Sum256(chain[len(chain)-1].Raw)
		fingerprint := hex.EncodeToString(sum[:])
		if !seen[fingerprint] {
			seen[fingerprint] = true
			found = append(found, fingerprint)
		}
	}
	return found
}
