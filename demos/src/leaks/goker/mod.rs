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
mod kubernetes_10182;
mod kubernetes_13135;
mod kubernetes_1321;
mod kubernetes_25331;
mod kubernetes_26980;
mod kubernetes_38669;
mod kubernetes_5316;
mod kubernetes_58107;
pub(super) mod kubernetes_70277;
mod moby_17176;
mod moby_25384;
mod moby_27782;
mod moby_30408;
mod moby_36114;
mod moby_4951;
mod serving_2137;
mod syncthing_4829;

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
    &kubernetes_1321::PROGRAM,
    &kubernetes_5316::PROGRAM,
    &kubernetes_10182::PROGRAM,
    &kubernetes_13135::PROGRAM,
    &kubernetes_25331::PROGRAM,
    &kubernetes_26980::PROGRAM,
    &kubernetes_38669::PROGRAM,
    &kubernetes_58107::PROGRAM,
    &kubernetes_70277::PROGRAM,
    &moby_4951::PROGRAM,
    &moby_17176::PROGRAM,
    &moby_25384::PROGRAM,
    &moby_27782::PROGRAM,
    &moby_30408::PROGRAM,
    &moby_36114::PROGRAM,
    &serving_2137::PROGRAM,
    &syncthing_4829::PROGRAM,
];
