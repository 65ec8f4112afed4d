package intercept

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// metrics are the counts and latencies of all calls.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	// byMethod caches the series of a method and code, so that a call costs no label look-up.
	byMethod sync.Map
}

type series struct {
	method string
	code   codes.Code
}

type observers struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hyperplane_rpc_requests_total", Help: "Calls by method and status code, over all transports.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hyperplane_rpc_duration_seconds", Help: "Time from a call's arrival to its end, by method.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"method"}),
	}
	r.MustRegister(m.requests, m.duration)
	return m
}

func (m *metrics) observe(method string, code codes.Code, took time.Duration) {
	key := series{method, code}
	o, ok := m.byMethod.Load(key)
	if !ok {
		o, _ = m.byMethod.LoadOrStore(key, observers{m.requests.WithLabelValues(method, code.String()), m.duration.WithLabelValues(method)})
	}
	s, _ := o.(observers)
	s.count.Inc()
	s.seconds.Observe(took.Seconds())
}

// observe counts each call and writes one log line for it: at debug level if it went well, louder if it is our fault.
func observe(log *slog.Logger, m *metrics) interceptor {
	done := func(ctx context.Context, method string, start time.Time, err error) {
		code, took := status.Code(err), time.Since(start)
		m.observe(method, code, took)
		level := levelOf(code)
		if !log.Enabled(ctx, level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("method", method), slog.String("code", code.String()), slog.Duration("took", took),
			slog.String("request_id", RequestID(ctx)), slog.String("user", userOf(ctx)),
		}
		if err != nil {
			attrs = append(attrs, slog.String("error", err.Error()))
		}
		log.LogAttrs(ctx, level, "call", attrs...)
	}
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			start := time.Now()
			res, err := handler(ctx, req)
			done(ctx, info.FullMethod, start, err)
			return res, err
		},
		stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			start := time.Now()
			err := handler(srv, ss)
			done(ss.Context(), info.FullMethod, start, err)
			return err
		},
	}
}

func userOf(ctx context.Context) string {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.user
	}
	return ""
}

func levelOf(code codes.Code) slog.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return slog.LevelDebug
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}
