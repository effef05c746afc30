package sim_test

import (
	"context"
	"fmt"

	"github.com/seed-0f2c7998/perdure/sim"
)

// An outage of 5 s costs callers that do not retry 5 s of their traffic. Those that
// only back off keep a storm going of which the backend does not recover.
func ExampleRun() {
	outage := sim.Storms()[0]
	for _, c := range sim.Contenders()[:2] {
		outage.Clients.Policy, outage.Clients.Breaker = c.Policy, c.Breaker
		r, err := sim.Run(context.Background(), outage, 1)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %.0f s lost, %.1f attempts for each operation, recovers: %v\n",
			c.Name, r.Lost.Seconds(), r.Amplification.After, r.Recovery != sim.Never)
	}
	// Output:
	// none: 5 s lost, 1.0 attempts for each operation, recovers: true
	// backoff: 17 s lost, 5.0 attempts for each operation, recovers: false
}
