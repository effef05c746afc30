package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// policyTopic is the help text about all there is to set.
func policyTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "policy",
		Short: "All that a policy can say: flags, environment, file",
		Long:  policyText(),
	}
}

func policyText() string {
	var b strings.Builder
	b.WriteString(`A policy is set by flags, environment variables and a YAML file. A flag comes
before the environment, that before the file, and the file before the preset.
A number is seconds where a time is meant; 1500ms is understood as well.

  flag          --max-attempts 7
  environment   PERDURE_MAX_ATTEMPTS=7
  file          --config FILE, or PERDURE_CONFIG=FILE:

                policy:
                  preset: s3_upload
                  max_attempts: 7
                  retry_on: [SlowDown, "503", timeout]
                circuit_breaker:
                  failure_threshold: 5
                  recovery_timeout_seconds: 30
                store: memory
`)
	title := ""
	for _, p := range policy.Parameters() {
		next := "policy"
		if p.Breaker {
			next = "circuit_breaker"
		}
		if next != title {
			fmt.Fprintf(&b, "\n%s:\n", next)
			title = next
		}
		fmt.Fprintf(&b, "  %-26s%s\n", p.Name, p.Describe())
	}
	return strings.TrimSpace(b.String())
}
