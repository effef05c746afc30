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

// A process that lives for seconds: it shares its breaker with its host and
// its fleet, and asks what they know before its first call.
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
		log.Print(err) // it goes on by what its host knows
	}
	err = breaker.Do(context.Background(), func(context.Context) error { return errors.New("no answer") })
	log.Print(err)
}
