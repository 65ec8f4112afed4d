package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hyperplane-project/hyperplane/internal/enumtext"
)

// stateCounter is a gauge by state, counted when it is asked for.
type stateCounter struct {
	desc *prometheus.Desc
	each func(add func(state string))
}

func byState(name, help string, each func(add func(string))) prometheus.Collector {
	return stateCounter{prometheus.NewDesc(name, help, []string{"state"}, nil), each}
}

// Describe implements prometheus.Collector.
func (c stateCounter) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c stateCounter) Collect(ch chan<- prometheus.Metric) {
	counts := make(map[string]int)
	c.each(func(state string) { counts[state]++ })
	for state, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), state)
	}
}

func stateText(e interface {
	protoreflect.Enum
	String() string
},
) string {
	return enumtext.Of(e)
}
