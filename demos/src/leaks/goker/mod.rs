//! Bugs of large programs in Go, each boiled down to what leaks.
//!
//! They are those of GoBench's GoKer suite that Go 1.27 tests its leak profile with; each names the change that repaired it.

mod cockroach_1055;
mod cockroach_10790;
mod cockroach_1462;
mod cockroach_16167;
mod cockroach_18101;
mod cockroach_2448;
mod cockroach_25456;
mod cockroach_35073;
mod cockroach_35931;
mod cockroach_6181;
mod cockroach_7504;
mod etcd_5509;
mod etcd_6708;
mod etcd_6857;
mod etcd_6873;
mod grpc_1275;
mod grpc_1460;
mod grpc_3017;
mod grpc_795;
mod grpc_862;
mod hugo_3251;
mod hugo_5379;
mod istio_16224;
mod istio_18454;

use super::program::Program;

/// All of them.
pub const PROGRAMS: &[&Program] = &[
    &cockroach_1055::PROGRAM,
    &cockroach_1462::PROGRAM,
    &cockroach_2448::PROGRAM,
    &cockroach_6181::PROGRAM,
    &cockroach_7504::PROGRAM,
    &cockroach_10790::PROGRAM,
    &cockroach_16167::PROGRAM,
    &cockroach_18101::PROGRAM,
    &cockroach_25456::PROGRAM,
    &cockroach_35073::PROGRAM,
    &cockroach_35931::PROGRAM,
    &etcd_5509::PROGRAM,
    &etcd_6708::PROGRAM,
    &etcd_6857::PROGRAM,
    &etcd_6873::PROGRAM,
    &grpc_795::PROGRAM,
    &grpc_862::PROGRAM,
    &grpc_1275::PROGRAM,
    &grpc_1460::PROGRAM,
    &grpc_3017::PROGRAM,
    &hugo_3251::PROGRAM,
    &hugo_5379::PROGRAM,
    &istio_16224::PROGRAM,
    &istio_18454::PROGRAM,
];
