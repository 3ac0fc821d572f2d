// Copyright (c) certflow.kubernetes contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A TLS server that sends any bytes as its certificates, also those that OpenSSL refuses to load.
//
// It reads one line of JSON from standard input, prints its port, and passes what clients send on to a server without TLS.
// It ends with its standard input.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
)

type options struct {
	Chain   [][]byte      // DER
	Key     []byte        // PKCS #8
	Backend string        // address and port
	Groups  []tls.CurveID // the only groups for the exchange of keys, empty for all
	IsTLS12 bool          // no newer version
	Needed  string        // the protocol that clients must offer, "" for none
	Refused string        // the protocol that clients must not offer, "" for none
}

func main() {
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	check(err)
	var given options
	check(json.Unmarshal(line, &given))
	key, err := x509.ParsePKCS8PrivateKey(given.Key)
	check(err)
	certificate := tls.Certificate{Certificate: given.Chain, PrivateKey: key}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, CurvePreferences: given.Groups}
	if given.IsTLS12 {
		config.MaxVersion = tls.VersionTLS12
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered := hello.SupportedProtos
		if given.Needed != "" && !slices.Contains(offered, given.Needed) || slices.Contains(offered, given.Refused) {
			return nil, fmt.Errorf("protocols %v", offered)
		}
		return nil, nil
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			client, err := listener.Accept()
			check(err)
			go pass(client, given.Backend)
		}
	}()
	_, _ = io.Copy(io.Discard, input)
}

func pass(client net.Conn, address string) {
	defer client.Close()
	backend, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer backend.Close()
	go func() {
		_, _ = io.Copy(backend, client)
	}()
	_, _ = io.Copy(client, backend)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
