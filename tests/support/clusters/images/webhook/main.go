// Copyright (c) certflow.kubernetes contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A webhook for tests: validating admission on /validate, CRD conversion on /convert, readiness on /readyz.
//
// It refuses an object with refuse: "yes" among its labels, annotations or data, and allows all others.
// A conversion sets the apiVersion that was asked for and changes nothing else.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

const refusal = "the test webhook refuses this"

type object = map[string]any

// certificate is the pair of tls.crt and tls.key in a directory, as it was last read.
type certificate struct {
	directory string
	current   atomic.Pointer[tls.Certificate]
}

// read takes over what the files hold now; a pair that does not fit together (half of it is new) is left out.
func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.directory, "tls.crt"), filepath.Join(c.directory, "tls.key"))
	if err != nil {
		return err
	}
	old := c.current.Swap(&pair)
	if old == nil || !old.Leaf.Equal(pair.Leaf) {
		log.Printf("serving certificate %x, valid until %s", pair.Leaf.SerialNumber, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func (c *certificate) poll() {
	for range time.Tick(time.Second) {
		if err := c.read(); err != nil {
			log.Print(err)
		}
	}
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

func main() {
	addr := flag.String("addr", ":8443", "address to listen on")
	directory := flag.String("certs", "/certs", "directory with tls.crt and tls.key")
	reload := flag.String("reload", "poll", "poll: read the files again every second; never: only at the start")
	drain := flag.Duration("drain", 3*time.Second, "how long to serve on after SIGTERM, while endpoints forget this pod")
	flag.Parse()
	if *reload != "poll" && *reload != "never" {
		log.Fatalf("--reload is poll or never, not %q", *reload)
	}

	served := &certificate{directory: *directory}
	if err := served.read(); err != nil {
		log.Fatal(err)
	}
	if *reload == "poll" {
		go served.poll()
	}
	http.HandleFunc("/validate", review(validate))
	http.HandleFunc("/convert", review(convert))
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	var draining atomic.Bool
	server := &http.Server{Addr: *addr, Handler: closing(&draining), TLSConfig: &tls.Config{GetCertificate: served.get}}
	go endAfter(server, &draining, *drain)
	if err := server.ListenAndServeTLS("", ""); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	select {} // endAfter ends the program, once open requests are answered
}

// closing asks clients to close each connection on which they call while the program is about to end. An idle
// connection that the server closes can lose a request that a client sends at the same moment.
func closing(draining *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() {
			w.Header().Set("Connection", "close")
		}
		http.DefaultServeMux.ServeHTTP(w, r)
	})
}

// endAfter waits for SIGTERM, serves on for a while, answers what is open, and ends the program.
func endAfter(server *http.Server, draining *atomic.Bool, drain time.Duration) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	<-asked
	draining.Store(true)
	time.Sleep(drain)
	patience, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if err := server.Shutdown(patience); err != nil {
		log.Print(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// review answers a review of kind AdmissionReview or ConversionReview by what `answer` makes of its request.
func review(answer func(request object) object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Request    object `json:"request"`
		}
		decoder := json.NewDecoder(r.Body)
		decoder.UseNumber() // what is converted keeps its numbers as they are written
		if err := decoder.Decode(&body); err != nil || body.Request == nil {
			http.Error(w, "this is no review", http.StatusBadRequest)
			return
		}
		response := answer(body.Request)
		response["uid"] = body.Request["uid"]
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(object{"apiVersion": body.APIVersion, "kind": body.Kind, "response": response})
	}
}

func validate(request object) object {
	asked, _ := request["object"].(object)
	metadata, _ := asked["metadata"].(object)
	for _, place := range []any{metadata["labels"], metadata["annotations"], asked["data"]} {
		if values, ok := place.(object); ok && values["refuse"] == "yes" {
			return object{"allowed": false, "status": object{"message": refusal, "code": http.StatusForbidden}}
		}
	}
	return object{"allowed": true}
}

func convert(request object) object {
	objects, _ := request["objects"].([]any)
	for _, entry := range objects {
		if converted, ok := entry.(object); ok {
			converted["apiVersion"] = request["desiredAPIVersion"]
		}
	}
	return object{"convertedObjects": objects, "result": object{"status": "Success"}}
}
