package redisstore_test

import (
	"context"
	"errors"
	"log"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A process that lives for seconds shares its breaker with its host and its fleet, and
// waits for their state before its first call.
func Example() {
	store, err := redisstore.Open(redisstore.Options{
		URL:   "rediss://cache.example.com",
		Local: hoststore.Open(""),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	breaker := circuit.New("payments", circuit.Config{Store: store})

	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := store.Ready(ctx); err != nil {
		log.Print(err) // the process continues with the state of its host
	}
	err = breaker.Do(context.Background(), func(context.Context) error { return errors.New("no response") })
	log.Print(err)
}
